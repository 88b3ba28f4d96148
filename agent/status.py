# SPDX-License-Identifier: Apache-2.0
"""The status document: the truth in one sentence, then everything it rests on."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..control.model import Mode, Server
from .attachment import ServerState, refused_ways
from .netns import netns_inum

if TYPE_CHECKING:
    from .daemon import Agent


def report(agent: Agent) -> dict[str, Any]:
    """What `sockrules status` shows; `enforcing` is false when less is in force than asked for."""
    enforcer, policy = agent.enforcer, agent.policy
    totals = enforcer.kernel.totals()
    lost = agent.record.lost_by_cpu()
    rules = policy.ruleset.active()
    servers = {
        server.word: _server(
            enforcer.servers[server],
            totals[server],
            sum(rule.server is server for rule in rules),
        )
        for server in Server
    }
    on = [state for state in enforcer.servers.values() if state.mode is not Mode.OFF]
    proven = all(state.attached and state.proof is not None and state.proof.ok for state in on)
    missing = enforcer.attachment.unguarded
    enforcing = proven and not missing and any(state.mode is Mode.ENFORCE for state in on)
    table = policy.table
    if enforcer.servers[Server.ACCEPT].attached:
        answer = enforcer.attachment.answer
        servers["accept"] |= {"reject_with": asdict(answer)}
    return {
        "sentence": sentence(enforcer.servers, policy.revision.revision, agent.rules_error)
        + uncovered(len(missing))
        + agent.countdown.sentence(),
        "enforcing": enforcing,
        "agent": {
            "pid": os.getpid(),
            "version": __version__,
            "started": agent.started,
            "root": str(agent.paths.root),
            "cgroup": str(enforcer.cgroup_path),
            "netns": netns_inum(),
        },
        "ruleset": {
            "revision": policy.revision.revision,
            "rules": len(policy.ruleset.rules),
            "active": len(rules),
            "applied": policy.revision.applied,
            "by": policy.revision.user,
            "file": policy.revision.file,
            "differs": agent.rules_differ(),
            "error": agent.rules_error,
            "pending": agent.countdown.waiting(),
            "next_change": agent.timekeeper.next_change(),
        },
        "table": {
            "entries": table.required.entries,
            "tables": table.required.tables,
            "steps": table.steps,
            "steps_limit": enforcer.kernel.capacity.steps,
            "bytes": table.size,
            "generation": enforcer.kernel.generation,
        },
        "servers": servers,
        "namespaces": enforcer.attachment.namespaces(),
        "programs": {
            "named": len(table.programs) + len(table.directories),
            "forgeable": enforcer.attachment.forgeable,
        },
        "services": enforcer.kernel.services.report() if enforcer.kernel.services else {},
        "events": {
            "received": agent.record.received,
            "written": agent.record.log.written,
            "lost_total": sum(lost.values()),
            "lost": {str(cpu): count for cpu, count in lost.items()},
            "unwritten": agent.record.log.unwritten,
            "malformed": agent.record.malformed,
        },
        "messages": agent.messages.report(),
        "problems": [*agent.record.problems, *agent.messages.problems()],
    }


def _server(state: ServerState, totals: dict[str, int], rules: int) -> dict[str, Any]:
    way, proof = state.way, state.proof
    return {
        "mode": state.mode.word,
        "hook": way.name if state.attached else None,
        "covers": way.covers if state.attached else None,
        "misses": (way.misses or None) if state.attached else None,
        "refused_ways": refused_ways(state),
        "proof": {
            "ok": bool(proof and proof.ok),
            "at": proof.at.isoformat(timespec="seconds").replace("+00:00", "Z") if proof else None,
            "why": proof.why if proof else "",
        },
        "rules": rules,
        "refused": state.refused,
        **{name: count for name, count in totals.items() if name != "lost"},
    }


def uncovered(count: int) -> str:
    """What the sentence says of network namespaces in which no peer is judged."""
    if not count:
        return ""
    return f"; {count} network namespace{'s'[: count > 1]} NOT COVERED"


def sentence(servers: dict[Server, ServerState], revision: int, rules_error: str | None) -> str:
    """One sentence: what is enforced, what only simulated, what is missing."""
    by_mode: dict[str, list[str]] = {}
    for server in Server:
        state = servers[server]
        if state.mode is Mode.OFF:
            key = "off"
        elif not state.attached:
            key = "NOT ATTACHED"
        elif state.proof is None or not state.proof.ok:
            key = "NOT PROVEN"
        else:
            key = {Mode.ENFORCE: "enforced", Mode.SIMULATE: "simulated"}[state.mode]
        by_mode.setdefault(key, []).append(server.word)
    if set(by_mode) == {"off"}:
        text = f"nothing is enforced: all servers are off (revision {revision})"
    else:
        order = ("enforced", "simulated", "NOT ATTACHED", "NOT PROVEN", "off")
        parts = [f"{', '.join(by_mode[key])} {key}" for key in order if key in by_mode]
        text = f"{'; '.join(parts)} (revision {revision})"
    if rules_error:
        text += "; the rule file has errors, the last applied rules stay in force"
    return text

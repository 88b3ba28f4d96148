# SPDX-License-Identifier: Apache-2.0
import sys, time
from pathlib import Path
from . import kernels, userland, machine
t=time.time(); img = userland.image(); k = kernels.debian(sys.argv[1]); print(img, k, time.time()-t)
lsm = machine.LSM_WITH_BPF if sys.argv[2]=="bpf" else machine.LSM_WITHOUT_BPF
t=time.time()
o = machine.run(machine.Machine(k, lsm), img, sys.argv[3], float(sys.argv[4]), lambda l: print("%6.1f"%(time.time()-t), l, flush=True))
print(o.status, o.seconds)

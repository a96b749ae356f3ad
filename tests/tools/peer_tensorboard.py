"""TensorBoard's own reader opens what a run left, and finds each step of steps.jsonl once.

  pip install tensorboard
  tests/tools/peer_tensorboard.py RUN_FOLDER
"""
import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run = sys.argv[1]
events = EventAccumulator(run, size_guidance={"scalars": 0})
events.Reload()
wanted = {}
with open(f"{run}/steps.jsonl") as f:
    for line in map(json.loads, f):
        for name, value in line.items():
            if name not in ("step", "epoch", "split"):
                wanted.setdefault(f"{line['split']}/{name}", []).append((line["step"], value))
for tag, rows in wanted.items():
    found = [(e.step, e.value) for e in events.Scalars(tag)]
    same = len(found) == len(rows) and all(a[0] == b[0] and abs(a[1] - b[1]) <= 1e-6 * abs(b[1]) for a, b in zip(found, rows))
    print(f"{tag:<24} {len(rows):>6} points {'as in steps.jsonl' if same else 'DIFFER'}")
    if not same:
        sys.exit(1)

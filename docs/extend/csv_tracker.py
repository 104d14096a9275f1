"""Add a tracker: every reading of a run becomes a line of a CSV file as soon as it is taken."""

import csv

import torch

import edgescope as es


class CSVTracker:
    """Called by a monitor with each step and its readings by name. Another tracker sends them elsewhere instead."""

    def __init__(self, path):
        self.path = path
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(["step", "measure", "part", "value", "error", "note"])

    def __call__(self, step, readings):
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            for name, reading in readings.items():
                for part, value in reading.values.items():
                    lines.writerow([step, name, part, value, reading.errors.get(part, ""), reading.note])
                if not reading.values:  # such as a measure that failed; its note says why
                    lines.writerow([step, name, "", "", "", reading.note])


if __name__ == "__main__":
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    inputs, targets = torch.randn(200, 20), torch.randint(3, (200,))
    loss_fn = torch.nn.functional.cross_entropy
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    objective = es.Objective(model, es.supervised(loss_fn), (inputs, targets))

    tracker = CSVTracker("readings.csv")
    monitor = es.Monitor(objective, optimizer, every=5, measures=["loss", "sharpness"], on_reading=tracker)
    for _ in range(20):
        optimizer.zero_grad()
        loss_fn(model(inputs), targets).backward()
        optimizer.step()
        monitor.step()
    monitor.close()

    with open("readings.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    print(len(rows), "lines")
    assert {row["step"] for row in rows} == {"0", "5", "10", "15", "20"}

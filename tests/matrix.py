"""The matrix writer x reader x head of the checkpoints that the tests have opened, printed when they have run."""

from gpt2_core.weights import HEADS

LETTERS = {head: head[0].upper() for head in HEADS}  # M L D S T Q
LEGEND = ", ".join(f"{letter} {head}" for head, letter in LETTERS.items())


def opens(record_property, writer, reader, head):
    """Notes that what `writer` wrote of a model with `head` was opened by `reader`, and was right."""
    record_property("opens", [writer, reader, head])


def table(reports):
    """Returns heading and rows of the matrix of some reports of tests that passed; a cell has a letter a head."""
    found = {}
    for report in reports:
        for name, value in report.user_properties:
            if name == "opens":
                writer, reader, head = value
                found.setdefault(writer, {}).setdefault(reader, set()).add(LETTERS[head])
    readers = sorted({reader for cells in found.values() for reader in cells})
    rows = [
        [writer, *("".join(x for x in LETTERS.values() if x in cells.get(reader, ())) or "-" for reader in readers)]
        for writer, cells in sorted(found.items())
    ]
    return ["written by", *readers], rows

"""Columns of text for the terminal."""

from collections.abc import Sequence


def print_table(rows: Sequence[Sequence[object]], heading: Sequence[str] = ()) -> None:
    """Prints rows in aligned columns; under a heading, numbers stand to the right."""
    cells = [[str(cell) for cell in row] for row in ([heading] if heading else []) + list(rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    for number, row in enumerate(cells):
        line = [
            cell.rjust(width) if heading and _is_number(cell) else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        print("  ".join(line).rstrip())
        if heading and number == 0:
            print("  ".join("-" * width for width in widths))


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return False
    return True

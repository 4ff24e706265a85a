import pytest
import torch

from ulcompress.coding.arithmetic import ArithmeticDecoder, ArithmeticEncoder, SymbolTable
from ulcompress.entropy import StaticEntropy
from ulcompress.entropy.inference import nearest_known
from ulcompress.entropy.order import in_order, spread


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 9), (5, 7), (16, 16)])
def test_every_position_comes_once(rows, columns):
    assert spread(rows, columns).sort().values.tolist() == list(range(rows * columns))


def test_the_order_is_that_of_the_files():
    assert spread(4, 4).tolist() == [0, 10, 2, 8, 5, 15, 7, 13, 1, 11, 3, 9, 4, 14, 6, 12]


def test_any_beginning_is_spread():
    for count in (4, 16, 64):
        positions = spread(16, 16)[:count]
        step = int((256 / count) ** 0.5)
        cells = {(int(p) // 16 // step, int(p) % 16 // step) for p in positions}
        assert len(cells) == count


def test_unknown_positions_take_the_nearest_symbol():
    symbols = torch.tensor([[5, 0, 0, 0, 7], [0, 0, 0, 0, 0]])
    known = symbols > 0
    assert nearest_known(symbols, known)[:, [0, 1, 3, 4]].tolist() == [[5, 5, 7, 7]] * 2
    assert nearest_known(symbols, torch.zeros_like(known)) is symbols


def test_a_map_that_was_cut_is_filled_from_what_is_there():
    entropy = StaticEntropy()
    entropy.build(9)
    symbols = torch.arange(3)[:, None].expand(3, 8).repeat_interleave(2, 0)[None] * 4
    encoder = ArithmeticEncoder()
    entropy.write(symbols, encoder)
    data = encoder.finish()
    shares = []
    for size in range(len(data)):
        read = entropy.read(ArithmeticDecoder(data[:size], cut=True), (6, 8))
        shares.append(float((read == symbols).float().mean()))
    assert shares[-1] > 0.9 and shares[len(data) // 2] > 0.6 > shares[0]


def test_old_files_have_maps_row_by_row():
    symbols = torch.arange(6).view(1, 2, 3)
    assert in_order(symbols, by_rows=True) == list(range(6))
    assert in_order(symbols, by_rows=False) == [0, 2, 4, 1, 3, 5]
    table, encoder = SymbolTable.uniform(9), ArithmeticEncoder()
    for symbol in range(6):
        table.encode(symbol, encoder)
    entropy = StaticEntropy()
    entropy.build(9)
    assert entropy.read(ArithmeticDecoder(encoder.finish(), by_rows=True), (2, 3)).tolist() == symbols.tolist()

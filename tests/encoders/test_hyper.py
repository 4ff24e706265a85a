import torch

from ulcompress.encoders.hyper import AttentionBlock


def test_the_attention_block_is_that_of_compressai(compressai):
    torch.manual_seed(0)
    block, reference = AttentionBlock(8), compressai.layers.AttentionBlock(8)
    weights = zip(reference.state_dict(), block.state_dict().values(), strict=True)
    reference.load_state_dict(dict(weights))
    x = torch.randn(2, 8, 5, 6)
    torch.testing.assert_close(block(x), reference(x))

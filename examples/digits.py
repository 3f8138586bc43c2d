# SPDX-License-Identifier: MIT
"""A small Neighborhood Attention Transformer that learns handwritten digits.

    python3 examples/digits.py --out FOLDER

scikit-learn's 1797 digits of 8 x 8, a fifth of them kept for the test.  Prints the
accuracy there and the time of training, and writes digits.png: for some digits of the
test, how much attention each pixel gets in the first layer, head by head, as na2d_qk
gives it.  Needs torch, scikit-learn and Matplotlib.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import natten
from natten import NeighborhoodAttention2D
from natten.functional import na2d_av, na2d_qk


class Layer(nn.Module):
    """Attention and a perceptron, each normalised before and added after."""

    def __init__(self, dim, heads, kernel_size):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = NeighborhoodAttention2D(
            dim=dim, kernel_size=kernel_size, num_heads=heads
        )
        self.mlp = nn.Sequential(
            nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Tokens of overlapping pixels, a layer at 8 x 8, one at 4 x 4, all of it read."""

    def __init__(self, dim=32, heads=4):
        super().__init__()
        self.tokens = nn.Conv2d(1, dim, 3, padding=1)
        self.first = Layer(dim, heads, 5)
        self.merge = nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1)
        self.second = Layer(2 * dim, heads, 3)
        self.norm = nn.LayerNorm(2 * dim)
        self.head = nn.Linear(4 * 4 * 2 * dim, 10)

    def start(self, pictures):
        """[batch, height, width, dim], the first layer's input."""
        return self.tokens(pictures[:, None]).movedim(1, -1)

    def forward(self, pictures):
        x = self.first(self.start(pictures))
        x = self.merge(x.movedim(-1, 1)).movedim(1, -1)
        return self.head(self.norm(self.second(x)).flatten(1))


def shifted(pictures):
    """Each by up to a pixel to a side: the digits are the same, the pixels are not."""
    padded = F.pad(pictures, (1, 1, 1, 1))
    moves = torch.randint(0, 3, (len(pictures), 2))
    rows = (moves[:, :1] + torch.arange(8))[:, :, None]
    columns = (moves[:, 1:] + torch.arange(8))[:, None, :]
    return padded[torch.arange(len(pictures))[:, None, None], rows, columns]


def train(model, pictures, labels, epochs, batch=64):
    steps = epochs * (len(pictures) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(pictures))
        for chosen in order[: len(order) // batch * batch].split(batch):
            loss = F.cross_entropy(model(shifted(pictures[chosen])), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


@torch.no_grad()
def attention_received(model, pictures):
    """[picture, head, height, width]: attention weights summed over the queries."""
    attn = model.first.attn
    qkv = attn.qkv(model.first.norm1(model.start(pictures)))
    # [3, batch, heads, height, width, head_dim]: heads first, as na2d_qk takes them.
    q, k, _ = qkv.unflatten(-1, (3, attn.num_heads, -1)).permute(3, 0, 4, 1, 2, 5)
    logits = na2d_qk(q * attn.scale, k, attn.kernel_size, rpb=attn.rpb)
    # A value's gradient is the sum of the weights that it is given.
    with torch.enable_grad():
        value = torch.ones_like(q[..., :1], requires_grad=True)
        out = na2d_av(logits.softmax(-1), value, attn.kernel_size)
        (received,) = torch.autograd.grad(out.sum(), value)
    return received[..., 0]


def draw(model, pictures, labels, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import PowerNorm

    received = attention_received(model, pictures).numpy()
    said = model(pictures).argmax(-1)
    heads = received.shape[1]
    figure, panels = plt.subplots(
        1 + heads, len(pictures), figsize=(1.15 * len(pictures), 1.3 * (1 + heads)),
        layout="constrained",
    )
    # Most pixels get little: their square roots are told apart by eye.
    scale = PowerNorm(0.5, vmin=0, vmax=received.max())
    for column, picture in enumerate(pictures.numpy()):
        panels[0][column].imshow(picture, cmap="gray_r")
        panels[0][column].set_title(f"{int(labels[column])}, read {int(said[column])}")
        for head in range(heads):
            shown = panels[1 + head][column].imshow(
                received[column, head], cmap="viridis", norm=scale
            )
    for row, name in enumerate(["digit", *(f"head {h + 1}" for h in range(heads))]):
        panels[row][0].set_ylabel(name)
        for panel in panels[row]:
            panel.set_xticks([])
            panel.set_yticks([])
    figure.colorbar(shown, ax=panels[1:], shrink=0.8, label="attention received")
    figure.savefig(path, dpi=90)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)

    from sklearn.datasets import load_digits

    torch.manual_seed(20220414)
    pictures, labels = load_digits(return_X_y=True)
    pictures = torch.tensor(pictures, dtype=torch.float32).view(-1, 8, 8) / 16
    labels = torch.tensor(labels)
    order = torch.randperm(len(pictures))
    test, learn = order[:360], order[360:]
    model = Transformer()
    # Pictures of 8 x 8 are too small to share out: threads would wait for each other.
    torch.set_num_threads(1)
    natten.set_num_threads(1)
    start = time.process_time()
    train(model, pictures[learn], labels[learn], options.epochs)
    # Of the processor, since other programs may run at the same time.
    seconds = time.process_time() - start
    with torch.no_grad():
        right = (model(pictures[test]).argmax(-1) == labels[test]).float().mean()
    accuracy = float(right)
    one_of_each = [int(test[labels[test] == digit][0]) for digit in range(10)]
    draw(model, pictures[one_of_each], labels[one_of_each], options.out / "digits.png")
    print(f"digits: {100 * accuracy:.2f} % of {len(test)} right, {seconds:.1f} s")
    return accuracy, seconds


if __name__ == "__main__":
    main()

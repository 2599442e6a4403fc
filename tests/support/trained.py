"""Small networks of the usual families, as they would be after a training: with statistics and scales."""

import torch
from torch import nn
from torch.nn import functional as F


def conv(inputs, outputs, kernel=3, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1, self.conv2 = conv(inputs, outputs, 3, stride), conv(outputs, outputs)[:2]
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride)[:2]

    def forward(self, x):
        return F.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


class TinyResNet(nn.Module):
    """Images (B, 3, H, W) to logits (B, 5)."""

    def __init__(self, classes=5):
        super().__init__()
        self.stem = conv(3, 16, 5)
        self.stage1 = nn.Sequential(Residual(16, 16), Residual(16, 16), Residual(16, 16))
        self.stage2 = nn.Sequential(Residual(16, 32, 2), Residual(32, 32))
        self.fc = nn.Linear(32, classes)

    def forward(self, x):
        return self.fc(self.stage2(self.stage1(self.stem(x))).mean((2, 3)))


class Squeeze(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 16, 1), nn.Conv2d(16, channels, 1)

    def forward(self, x):
        return x * self.expand(F.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))).sigmoid()


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, stride=1, kernel=3):
        super().__init__()
        hidden = 2 * inputs
        self.expand, self.depthwise = conv(inputs, hidden, 1), conv(hidden, hidden, kernel, stride, hidden)
        self.squeeze, self.project = Squeeze(hidden), conv(hidden, outputs, 1)[:2]
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x):
        y = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + y if self.skips else y


class TinyMobileNet(nn.Module):
    """Depthwise convolutions, squeeze and excitation."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 16, 3, 2)
        self.blocks = nn.ModuleList(
            [Inverted(16, 24, 2, 5), Inverted(24, 24, 1, 5), Inverted(24, 24), Inverted(24, 32)]
        )
        self.classifier = nn.Linear(32, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


class TinyDenseNet(nn.Module):
    """Layers that read the concatenation of all before them."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 16)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(16 + 16 * n), nn.ReLU(), nn.Conv2d(16 + 16 * n, 16, 3, padding=1))
            for n in range(3)
        )
        self.norm, self.fc = nn.BatchNorm2d(64), nn.Linear(64 * 4, 5)

    def forward(self, x):
        maps = [self.stem(x)]
        for layer in self.layers:
            maps.append(layer(torch.cat(maps, 1)))
        x = F.relu(self.norm(torch.cat(maps, 1)))
        return self.fc(F.adaptive_max_pool2d(x, 2).flatten(1))


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.inner = self.heads * self.head_dim
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        count, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(count, tokens, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=0.25)
        return self.proj(mixed.transpose(1, 2).reshape(count, tokens, self.inner))


class Encoder(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TinyViT(nn.Module):
    """Attention with a fused projection, positions and a class token."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 32)), nn.Parameter(torch.randn(1, 17, 32))
        self.blocks = nn.Sequential(*(Encoder(32, 2) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class Shuffled(nn.Module):
    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(conv(half, half, 1), conv(half, half, 3, 1, half), conv(half, half, 1))

    def forward(self, x):
        kept, changed = x.chunk(2, 1)
        x = torch.cat([kept, self.branch(changed)], 1)
        return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


class TinyGrouped(nn.Module):
    """Convolutions in groups: many small ones, few large ones, and shuffled halves."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 64)
        self.many, self.few = conv(64, 64, 3, 1, 16), conv(64, 64, 3, 1, 2)
        self.norm = nn.GroupNorm(4, 64)
        self.shuffled = nn.Sequential(Shuffled(64), Shuffled(64))
        self.fc = nn.Linear(64, 5)

    def forward(self, x):
        x = self.norm(self.few(self.many(self.stem(x))))
        return self.fc(self.shuffled(x).mean((2, 3)))


FAMILIES = {
    "resnet": TinyResNet,
    "mobilenet": TinyMobileNet,
    "densenet": TinyDenseNet,
    "vit": TinyViT,
    "grouped": TinyGrouped,
}


def trained(family, seed=0):
    """A network whose norms have statistics and scales of their own."""
    torch.manual_seed(seed)
    network = FAMILIES[family]() if isinstance(family, str) else family()
    for name, tensor in network.state_dict().items():
        if name.endswith(("norm.weight", "1.weight", "norm1.weight", "norm2.weight")) and tensor.dim() == 1:
            tensor.uniform_(0.2, 1.5)
        elif name.endswith("running_mean"):
            tensor.normal_(0, 0.2)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    return network.eval()

"""How the originals use their weights: photo in, label map out. Written again from the description of their code.

Nothing here is seglab's but the class of U²-Net, whose outputs are held to the original's by golden vectors.
"""

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from skimage import transform
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import functional as TF

from seglab.models.u2net import u2net, u2netp

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def double(before, after, norm, slope):
    layers = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1)]
        layers += [nn.BatchNorm2d(after)] if norm else []
        layers += [nn.LeakyReLU(slope) if slope else nn.ReLU()]
    return nn.Sequential(*layers)


def holder(**modules):
    module = nn.Module()
    for name, child in modules.items():
        module.add_module(name, child)
    return module


class HelenUNet(nn.Module):
    """Probabilities out; pads both axes by what the height lacks."""

    def __init__(self, num_classes, width):
        super().__init__()
        c = [width * 2**level for level in range(5)]

        def block(before, after):
            return holder(double_conv=double(before, after, True, 0.05))

        self.inc = block(3, c[0])
        for level in range(1, 5):
            down = holder(maxpool_conv=nn.Sequential(nn.MaxPool2d(2), block(c[level - 1], c[level])))
            self.add_module(f"down{level}", down)
            above = c[4 - level]
            up = holder(up=nn.ConvTranspose2d(2 * above, above, 2, 2), conv=block(2 * above, above))
            self.add_module(f"up{level}", up)
        self.outc = holder(conv=nn.Conv2d(c[0], num_classes, 1))

    def forward(self, x):
        skips = [self.inc.double_conv(x)]
        for level in range(1, 5):
            pool, block = getattr(self, f"down{level}").maxpool_conv
            skips.append(block.double_conv(pool(skips[-1])))
        x = skips.pop()
        for level in range(1, 5):
            up, skip = getattr(self, f"up{level}"), skips.pop()
            x = up.up(x)
            d = skip.shape[2] - x.shape[2]
            x = F.pad(x, [d // 2, d - d // 2, d // 2, d - d // 2])
            x = up.conv.double_conv(torch.cat([skip, x], 1))
        return self.outc.conv(x).softmax(1)


class PgnUNet(nn.Module):
    def __init__(self, num_classes, width):
        super().__init__()
        c = [width * 2**level for level in range(5)]

        def block(before, after):
            return holder(convolution=double(before, after, False, 0))

        for level in range(1, 5):
            self.add_module(f"down{level}", holder(doubleconv=block(([3, *c])[level - 1], c[level - 1])))
            above = c[4 - level]
            up = holder(upsample=nn.ConvTranspose2d(2 * above, above, 2, 2), conv=block(2 * above, above))
            self.add_module(f"up{level}", up)
        self.bottleneck = block(c[3], c[4])
        self.final_layer = nn.Conv2d(c[0], num_classes, 1)

    def forward(self, x):
        skips = []
        for level in range(1, 5):
            skips.append(getattr(self, f"down{level}").doubleconv.convolution(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bottleneck.convolution(x)
        for level in range(1, 5):
            up = getattr(self, f"up{level}")
            x = up.conv.convolution(torch.cat([up.upsample(x), skips.pop()], 1))
        return self.final_layer(x)


class Generator(nn.Module):
    """Pix2Pix; ``form`` is plain, edge or res2pix."""

    def __init__(self, form, width):
        super().__init__()
        self.form = form
        f = width
        reflect = {"padding_mode": "reflect"}
        self.initDown = nn.Sequential(nn.Conv2d(4 if form == "edge" else 3, f, 4, 2, 1, **reflect), nn.LeakyReLU(0.2))
        c = [f, 2 * f, 4 * f, 8 * f, 8 * f, 8 * f, 8 * f]
        for n in range(1, 7):
            layers = nn.Sequential(
                nn.Conv2d(c[n - 1], c[n], 4, 2, 1, bias=False, **reflect), nn.BatchNorm2d(c[n]), nn.LeakyReLU(0.2)
            )
            self.add_module(f"down{n}", holder(layers=layers))
        self.bottleNeck = nn.Sequential(nn.Conv2d(8 * f, 8 * f, 4, 2, 1), nn.ReLU())
        ins = [8 * f, 16 * f, 16 * f, 16 * f, 16 * f, 8 * f, 4 * f]
        outs = [8 * f, 8 * f, 8 * f, 8 * f, 4 * f, 2 * f, f]
        for n in range(1, 8):
            layers = nn.Sequential(
                nn.ConvTranspose2d(ins[n - 1], outs[n - 1], 4, 2, 1, bias=False), nn.BatchNorm2d(outs[n - 1]), nn.ReLU()
            )
            self.add_module(f"up{n}", holder(layers=layers))
        if form == "res2pix":
            self.final = nn.ConvTranspose2d(2 * f, f, 4, 2, 1)
            self.resBlocks = nn.ModuleList(
                [holder(conv1=nn.Conv2d(f, f, 3, padding=1), conv2=nn.Conv2d(f, f, 3, padding=1)) for _ in range(5)]
            )
            self.finalBlock = nn.Sequential(nn.Conv2d(f, 1, 3, padding=1), nn.Tanh())
        else:
            self.final = nn.Sequential(nn.ConvTranspose2d(2 * f, 1, 4, 2, 1), nn.Tanh())

    def forward(self, x):
        if self.form == "edge":
            x = torch.cat([x, edges(x)], 1)
        skips = [self.initDown(x)]
        for n in range(1, 7):
            skips.append(getattr(self, f"down{n}").layers(skips[-1]))
        x = self.up1.layers(self.bottleNeck(skips[-1]))
        for n in range(2, 8):
            x = getattr(self, f"up{n}").layers(torch.cat([x, skips.pop()], 1))
        x = self.final(torch.cat([x, skips.pop()], 1))
        if self.form != "res2pix":
            return x
        for block in self.resBlocks:
            inner = F.leaky_relu(block.conv2(F.leaky_relu(block.conv1(x), 0.2)), 0.2)
            x = x + inner
        return self.finalBlock(x)


def edges(x):
    grey = x.mean(1, keepdim=True)
    found = torch.zeros_like(grey)
    found[..., :, 1:][(grey[..., :, 1:] - grey[..., :, :-1]).abs() > 0.3] = 1
    found[..., 1:, :][(grey[..., 1:, :] - grey[..., :-1, :]).abs() > 0.3] = 1
    return found


def normalised(image, constants):
    return TF.normalize(TF.to_tensor(image), *constants).unsqueeze(0)


@torch.no_grad()
def helen(net, image):
    """The network is never put in evaluation mode, and sees 0..255 at the photo's own size."""
    net.train()
    x = torch.from_numpy(image.astype(np.float32).transpose(2, 0, 1)).unsqueeze(0)
    return net(x).argmax(1)[0].numpy().astype(np.uint8)


@torch.no_grad()
def cloth(net, image):
    output = net.eval()(normalised(Image.fromarray(image), HALF))[0]
    return F.log_softmax(output, dim=1).max(dim=1)[1][0].numpy().astype(np.uint8)


@torch.no_grad()
def saliency_map(net, image):
    small = transform.resize(image, (320, 320), mode="constant")
    small = small / np.max(small)
    x = np.zeros((320, 320, 3))
    for channel, (mean, std) in enumerate(zip(*IMAGENET, strict=True)):
        x[:, :, channel] = (small[:, :, channel] - mean) / std
    x = torch.from_numpy(x.transpose(2, 0, 1).copy()).unsqueeze(0).type(torch.FloatTensor)
    d0 = torch.sigmoid(net.eval()(x)[0])[:, 0]
    d0 = (d0 - d0.min()) / (d0.max() - d0.min())
    grey = Image.fromarray(d0.squeeze().numpy() * 255).convert("RGB")
    return np.array(grey.resize((image.shape[1], image.shape[0]), resample=Image.BILINEAR))[..., 0]


@torch.no_grad()
def person(net, image):
    x = normalised(TF.resize(Image.fromarray(image), [256, 256]), HALF)
    mask = net.eval()(x)
    if mask.shape[-2:] != image.shape[:2]:
        mask = F.interpolate(mask, size=image.shape[:2], mode="bicubic", align_corners=False)
    return torch.round((mask + 1) / 2)[0, 0].numpy() >= 1


@torch.no_grad()
def parsing(net, image, size=256):
    x = normalised(TF.resize(Image.fromarray(image), [size, size]), IMAGENET)
    return net.eval()(x).argmax(1)[0].numpy().astype(np.uint8)


@torch.no_grad()
def parts(net, image):
    resized = cv2.resize(image, (512, 512), interpolation=cv2.INTER_NEAREST)
    return net.eval()(normalised(resized, IMAGENET)).softmax(1).argmax(1)[0].numpy().astype(np.uint8)


def enlarged(labels, image):
    """Bring a label map to a photo's size, which those originals leave open."""
    return np.asarray(Image.fromarray(labels).resize((image.shape[1], image.shape[0]), Image.NEAREST))


def deeplab():
    return smp.DeepLabV3("mobilenet_v2", encoder_weights=None, classes=7, activation=None)


__all__ = ["Generator", "HelenUNet", "PgnUNet", "cloth", "deeplab", "enlarged", "helen", "parsing", "parts", "person",
           "saliency_map", "u2net", "u2netp"]  # fmt: skip

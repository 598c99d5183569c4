"""The Part Grouping Network written plainly from its description, in numpy, on TensorFlow's names and layouts.

Slow, and about one picture (H, W, C). It shares no code with the network that it is compared to.
"""

import numpy as np

EPS = 1e-3


def listing(num_classes=20, width=64, blocks=(3, 4, 23, 3)):
    """Every variable of the checkpoint, name to shape (HWIO)."""
    shapes = {}

    def convolution(name, kernel, num_in, num_out):
        shapes[f"{name}/weights"] = (kernel, kernel, num_in, num_out)
        shapes[f"{name}/biases"] = (num_out,)

    def normalised(name, norm, kernel, num_in, num_out):
        shapes[f"{name}/weights"] = (kernel, kernel, num_in, num_out)
        shapes.update({f"{norm}/{part}": (num_out,) for part in ("beta", "gamma", "moving_mean", "moving_variance")})

    normalised("conv1", "bn_conv1", 7, 3, width)
    channels = width
    for stage, count in zip((2, 3, 4, 5), blocks, strict=True):
        inner = width * 2 ** (stage - 2)
        for block in block_names(stage, count):
            sizes = {"branch2a": (1, channels, inner), "branch2b": (3, inner, inner), "branch2c": (1, inner, 4 * inner)}
            if block == "a":
                sizes["branch1"] = (1, channels, 4 * inner)
            for branch, size in sizes.items():
                normalised(f"res{stage}{block}_{branch}", f"bn{stage}{block}_{branch}", *size)
            channels = 4 * inner
    _list_branches(convolution, num_classes, width)
    return shapes


def _list_branches(convolution, num_classes, width):
    wide, narrow, remap = 8 * width, 4 * width, 2 * width
    for kind, own, outputs in (("parsing", wide, num_classes), ("edge", narrow, 1)):
        for number, tap in enumerate((8 * width, 16 * width, 32 * width), start=1):
            convolution(f"{kind}_branch{number}", 3, tap, own)
        convolution(f"{kind}_branch", 3, 3 * own, own)
        convolution(f"{kind}_pp_conv", 3, own + 4 * wide, wide)
        convolution(f"{kind}_fc", 3, wide, outputs)
        convolution(f"{kind}_fea", 3, wide, narrow)
        convolution(f"{kind}_remap", 1, outputs, remap)
        convolution(f"{kind}_rf", 3, 2 * narrow + 2 * remap, wide)
        convolution(f"{kind}_rf_conv", 3, 5 * wide, wide)
        convolution(f"{kind}_rf_fc", 3, wide, outputs)
        for number in range(1, 5):
            convolution(f"{kind}_pp{number}", 3, own, wide)
            convolution(f"{kind}_rf_pp{number}", 3, wide, wide)
    for stage in (3, 4, 5):
        for number in range(5):
            convolution(f"fc1_edge_c{number}_res{stage}", 3, narrow, 1)


def block_names(stage, count):
    if stage in (2, 5):
        return "abc"[:count]
    return ["a", *(f"b{number}" for number in range(1, count))]


def same_before(size, kernel, stride):
    """Outputs along a side, and the padding before it."""
    num = -(-size // stride)
    return num, max((num - 1) * stride + kernel - size, 0) // 2


def windows(size, kernel, stride):
    """For every output, the positions inside the map that its window covers, with their place in the window."""
    num, before = same_before(size, kernel, stride)
    starts = [number * stride - before for number in range(num)]
    return [[(start + k, k) for k in range(kernel) if 0 <= start + k < size] for start in starts]


def convolve(x, weights, biases=0.0, stride=1, dilation=1):
    kernel = weights.shape[0]
    spread = np.zeros(((kernel - 1) * dilation + 1,) * 2 + weights.shape[2:])
    spread[::dilation, ::dilation] = weights
    rows, columns = (windows(size, spread.shape[0], stride) for size in x.shape[:2])
    result = np.zeros((len(rows), len(columns), weights.shape[3]))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            y, v = zip(*row, strict=True)
            z, u = zip(*column, strict=True)
            result[i, j] = np.einsum("abc,abcd->d", x[np.ix_(y, z)], spread[np.ix_(v, u)])
    return result + biases


def pool(x, kernel, stride, reduce):
    rows, columns = (windows(size, kernel, stride) for size in x.shape[:2])
    return np.array(
        [
            [reduce(x[row[0][0] : row[-1][0] + 1, column[0][0] : column[-1][0] + 1], axis=(0, 1)) for column in columns]
            for row in rows
        ]
    )


def enlarge(x, height, width):
    """TensorFlow 1: output i lies at i * old / new."""
    result = np.zeros((height, width, x.shape[2]))
    for i in range(height):
        for j in range(width):
            y, z = i * x.shape[0] / height, j * x.shape[1] / width
            top, left = int(y), int(z)
            bottom, right = min(top + 1, x.shape[0] - 1), min(left + 1, x.shape[1] - 1)
            down, over = y - top, z - left
            above = (1 - over) * x[top, left] + over * x[top, right]
            below = (1 - over) * x[bottom, left] + over * x[bottom, right]
            result[i, j] = (1 - down) * above + down * below
    return result


def relu(x):
    return np.maximum(x, 0)


def forward(values, image, blocks):
    """Return refined and first parsing, refined and first edge, and the edges of res5, res4, res3: (H, W, C) each.

    Args:
        values: Variables by name.
        image: (H, W, 3), blue, green, red, the mean subtracted; sides are multiples of 8.
        blocks: Of the four stages.
    """

    def conv(name, x, **options):
        return convolve(x, values[f"{name}/weights"], values[f"{name}/biases"], **options)

    def norm_conv(name, norm, x, **options):
        y = convolve(x, values[f"{name}/weights"], **options)
        mean, variance = values[f"{norm}/moving_mean"], values[f"{norm}/moving_variance"]
        return (y - mean) / np.sqrt(variance + EPS) * values[f"{norm}/gamma"] + values[f"{norm}/beta"]

    def pyramid(kind, x):
        levels = [x]
        for number, window in enumerate((60, 30, 20, 10), start=1):
            level = relu(conv(f"{kind}_pp{number}", pool(x, window, window, np.mean)))
            levels.append(enlarge(level, *x.shape[:2]))
        return np.concatenate(levels, axis=2)

    x = pool(relu(norm_conv("conv1", "bn_conv1", image, stride=2)), 3, 2, np.max)
    taps = []
    for stage, count, dilation in zip((2, 3, 4, 5), blocks, (1, 1, 2, 4), strict=True):
        for block in block_names(stage, count):
            name, norm = f"res{stage}{block}", f"bn{stage}{block}"
            stride = 2 if (stage, block) == (3, "a") else 1
            inner = relu(norm_conv(f"{name}_branch2a", f"{norm}_branch2a", x, stride=stride))
            inner = relu(norm_conv(f"{name}_branch2b", f"{norm}_branch2b", inner, dilation=dilation))
            inner = norm_conv(f"{name}_branch2c", f"{norm}_branch2c", inner)
            beside = norm_conv(f"{name}_branch1", f"{norm}_branch1", x, stride=stride) if block == "a" else x
            x = relu(beside + inner)
        if stage > 2:
            taps.append(x)

    def branch(kind):
        tapped = [relu(conv(f"{kind}_branch{number}", tap)) for number, tap in enumerate(taps, start=1)]
        joined = relu(conv(f"{kind}_branch", np.concatenate(tapped, axis=2)))
        features = relu(conv(f"{kind}_pp_conv", pyramid(kind, joined)))
        return tapped, features, conv(f"{kind}_fc", features)

    _, parsing_features, parsing = branch("parsing")
    edge_taps, edge_features, edge = branch("edge")
    sides = {
        stage: sum(conv(f"fc1_edge_c{number}_res{stage}", tap, dilation=2**number) for number in range(5))
        for stage, tap in zip((3, 4, 5), edge_taps, strict=True)
    }
    of_parsing = [relu(conv("parsing_fea", parsing_features)), relu(conv("parsing_remap", parsing))]
    of_edge = [relu(conv("edge_fea", edge_features)), relu(conv("edge_remap", edge))]

    def refined(kind, parts):
        x = relu(conv(f"{kind}_rf", np.concatenate(parts, axis=2)))
        return conv(f"{kind}_rf_fc", relu(conv(f"{kind}_rf_conv", pyramid(f"{kind}_rf", x))))

    outputs = [refined("parsing", of_parsing + of_edge), parsing, refined("edge", of_edge + of_parsing), edge]
    outputs += [sides[5], sides[4], sides[3]]
    return [enlarge(output, *image.shape[:2]) for output in outputs]

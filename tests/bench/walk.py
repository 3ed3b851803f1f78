"""A PyTorch module as JAX functions: its traced graph is walked node by node, values with channels last, as XLA's convolutions on
CPUs like them. Only what the nets of the table consist of."""
import operator

import numpy

from nets import nn, torch


def jax_names():
    import jax
    return jax, jax.lax, jax.numpy


def parameters_of(module):
    """state_dict key -> array, convolutions' weights as [r, s, c, k], Linear's as [c, k]."""
    arrays = {}
    for name, value in module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            a = value.detach().numpy()
            arrays[name] = a.transpose(2, 3, 1, 0) if a.ndim == 4 else a.T if a.ndim == 2 else a
    return arrays


def conv(m, x, p, name):
    _, lax, _ = jax_names()
    y = lax.conv_general_dilated(x, p[name + ".weight"], m.stride, [(a, a) for a in m.padding], feature_group_count=m.groups,
                                 dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y + p[name + ".bias"] if m.bias is not None else y


def batch_norm(m, x, p, name, training):
    _, _, jnp = jax_names()
    if training:
        mean = x.mean((0, 1, 2))
        var = ((x - mean) ** 2).mean((0, 1, 2))
    else:
        mean, var = p[name + ".running_mean"], p[name + ".running_var"]
    return (x - mean) * (p[name + ".weight"] / jnp.sqrt(var + m.eps)) + p[name + ".bias"]


def pairs(a):
    return (a, a) if isinstance(a, int) else tuple(a)


def max_pool(m, x):
    _, lax, jnp = jax_names()
    size, stride, pad = pairs(m.kernel_size), pairs(m.stride), pairs(m.padding)
    pads = []
    for extent, k, s, a in zip(x.shape[1:3], size, stride, pad):
        more = -(extent + 2 * a - k) % s if m.ceil_mode else 0      # rows that only ceil_mode's last window reaches
        pads.append((a, a + more))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *size, 1), (1, *stride, 1), [(0, 0), *pads, (0, 0)])


def average_to(m, x):
    rows, columns = pairs(m.output_size)
    if x.shape[1:3] == (rows, columns):
        return x
    assert rows == columns == 1
    return x.mean((1, 2), keepdims=True)


def flatten(x):
    return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1) if x.ndim == 4 else x


def layer(m, x, p, name, training):
    _, _, jnp = jax_names()
    if isinstance(m, nn.Conv2d):
        return conv(m, x, p, name)
    if isinstance(m, nn.Linear):
        return x @ p[name + ".weight"] + p[name + ".bias"]
    if isinstance(m, nn.BatchNorm2d):
        return batch_norm(m, x, p, name, training)
    if isinstance(m, nn.ReLU6):
        return jnp.clip(x, 0, 6)
    if isinstance(m, nn.ReLU):
        return jnp.maximum(x, 0)
    if isinstance(m, nn.MaxPool2d):
        return max_pool(m, x)
    if isinstance(m, nn.AdaptiveAvgPool2d):
        return average_to(m, x)
    if isinstance(m, nn.Flatten):
        return flatten(x)
    assert isinstance(m, (nn.Dropout, nn.Identity)), m
    return x


def function(f, args):
    _, _, jnp = jax_names()
    if f in (operator.add, operator.iadd, torch.add):
        return args[0] + args[1]
    if f is torch.cat:
        return jnp.concatenate(args[0], -1)         # axis 1 with channels first
    if f is torch.flatten:
        return flatten(args[0])
    if f is nn.functional.adaptive_avg_pool2d:
        return args[0].mean((1, 2), keepdims=True)      # the nets here ask for one number a channel
    assert f is nn.functional.relu, f
    return jnp.maximum(args[0], 0)


def jax_function(module, training):
    """(parameters, x with channels last) -> outputs."""
    traced = torch.fx.symbolic_trace(module)
    modules = dict(traced.named_modules())

    def apply(p, x):
        values = {}
        for node in traced.graph.nodes:
            args = torch.fx.node.map_arg(node.args, lambda n: values[n])
            if node.op == "placeholder":
                values[node] = x
            elif node.op == "call_module":
                values[node] = layer(modules[node.target], args[0], p, node.target, training)
            elif node.op == "call_function":
                values[node] = function(node.target, args)
            else:
                return args[0]
    return apply


def channels_last(x):
    return numpy.ascontiguousarray(x.transpose(0, 2, 3, 1))


def jax_inference(made, batch):
    """(compiled function, its input)"""
    jax, _, jnp = jax_names()
    p = parameters_of(made.module)                  # constants, so that XLA may fold them
    apply = jax_function(made.module, False)
    return jax.jit(lambda x: apply(p, x)), jnp.asarray(channels_last(made.input(batch)))


def jax_step(made, batch, labels, adam):
    """A function of nothing that does a training step and returns its loss, not yet waited for."""
    jax, _, jnp = jax_names()
    apply = jax_function(made.module.train(), True)
    x, y = jnp.asarray(channels_last(made.input(batch))), jnp.asarray(labels)

    def loss(p):
        logits = jax.nn.log_softmax(apply(p, x))
        return -jnp.take_along_axis(logits, y[:, None], 1).mean()

    def sgd(p, g, m):
        m = jax.tree.map(lambda m, g: 0.9 * m + g, m, g)
        return jax.tree.map(lambda p, m: p - 1e-3 * m, p, m), m

    def adam_update(p, g, m):
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m[0], g)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, m[1], g)
        step = m[2] + 1
        scale = 1e-3 * jnp.sqrt(1 - 0.999 ** step) / (1 - 0.9 ** step)
        return jax.tree.map(lambda p, m, v: p - scale * m / (jnp.sqrt(v) + 1e-8), p, first, second), (first, second, step)

    def update(p, m):
        value, g = jax.value_and_grad(loss)(p)
        return value, *(adam_update if adam else sgd)(p, g, m)
    names = {name for name, _ in made.module.named_parameters()}
    p = {k: jnp.asarray(v) for k, v in parameters_of(made.module).items() if k in names}
    zeros = jax.tree.map(jnp.zeros_like, p)
    state = [p, (zeros, jax.tree.map(jnp.zeros_like, p), jnp.zeros(())) if adam else zeros]
    compiled = jax.jit(update, donate_argnums=(0, 1))

    def step():
        value, state[0], state[1] = compiled(*state)
        return value
    made.module.eval()
    return step

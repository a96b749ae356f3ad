"""The R-Drop loss: that of the paper's code, and the leanest that PyTorch can be made to compute."""
import torch
import torch.nn.functional as F

from torch_common import compiled, fastest


def rdrop_loss(logits, target, smoothing=0.0, passes=2):
    """logits [m N, V], target [N]; the mean over units, alpha 1, as Tandem divides it. The cross-entropy of the
    repeated batch, and kl_div of every two passes' log_softmax both ways."""
    ce = F.cross_entropy(logits, target.repeat(passes), label_smoothing=smoothing)
    if passes == 1:
        return ce
    each = F.log_softmax(logits, -1).chunk(passes)
    kl = sum(F.kl_div(q, p, reduction="sum", log_target=True) for p in each for q in each if p is not q)
    return ce + 0.5 * kl / (passes * (passes - 1)) / target.numel()


def lean_rdrop(logits, target, smoothing=0.0, passes=2, log_softmax=torch.log_softmax):
    """The same loss and its gradient with respect to the logits, without autograd, in O(m V).

    With l = log_softmax and p = exp(l) of a pass, L and P their sums over the passes and a = alpha / (2 m (m - 1) N):
      sum over i != j of KL(p_i || p_j) = sum over i and classes of u_i,  where u_i = p_i (m l_i - L),
      its gradient in the logits of pass i = u_i - p_i (sum over classes of u_i) + m p_i - P."""
    m, n, classes = passes, target.numel(), logits.shape[-1]
    z = logits.view(m, n, classes)
    lp = log_softmax(z if z.dtype == torch.float64 else z.float(), -1)
    p = lp.exp()
    labels = target.view(1, n, 1).expand(m, n, 1)
    nll = -(1 - smoothing) * lp.gather(-1, labels).sum()
    if smoothing:
        nll = nll - smoothing / classes * lp.sum()
    value, gradient = nll / (m * n), (p - smoothing / classes) / (m * n)
    if m > 1:
        a = 0.5 / (m * (m - 1) * n)
        u = p * (m * lp - lp.sum(0))
        distance = u.sum(-1, keepdim=True)
        value = value + a * distance.sum()
        gradient = gradient + a * (u - p * distance + m * p - p.sum(0))
    at_label = torch.arange(classes, device=z.device) == labels
    gradient = torch.where(at_label, gradient - (1 - smoothing) / (m * n), gradient)
    return value, gradient.to(logits.dtype).view_as(logits)


@torch.library.custom_op("peers::log_softmax", mutates_args=())
def eager_log_softmax(x: torch.Tensor, dim: int) -> torch.Tensor:
    """PyTorch's own kernel, which the compiler leaves alone."""
    return torch.log_softmax(x, dim)


@eager_log_softmax.register_fake
def _(x, dim):
    return torch.empty_like(x)


def rdrop(s):
    """The loss alone, value and gradient."""
    logits = s.normal(s.passes * s.units, s.classes).requires_grad_()
    target = s.ids(s.classes, s.units)
    if s.best:
        z = logits.detach()
        ways = {name: compiled(lambda z, y, f=f: lean_rdrop(z, y, 0.0, s.passes, f))
                for name, f in (("compiled", torch.log_softmax), ("own log_softmax", eager_log_softmax))}
        return fastest({name: lambda f=f: f(z, target) for name, f in ways.items()})

    def loss():
        with s.autocast():
            return rdrop_loss(logits, target, 0.0, s.passes)

    run_loss = s.compiled(loss)

    def run():
        logits.grad = None
        run_loss().backward()

    return run


def check():
    """The formula above against autograd through the loss of the paper's code, in f64."""
    for m in (1, 2, 3, 8):
        for smoothing in (0.0, 0.1):
            logits = (3 * torch.randn(m * 5, 11, dtype=torch.float64)).requires_grad_()
            target = torch.randint(11, (5,))
            expected = rdrop_loss(logits, target, smoothing, m)
            expected.backward()
            value, gradient = lean_rdrop(logits.detach(), target, smoothing, m)
            torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(gradient, logits.grad, rtol=1e-12, atol=1e-14)
    print("the lean loss has the value and the gradient of autograd's")

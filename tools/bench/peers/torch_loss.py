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


def lean_rdrop(logits, target, smoothing=0.0, passes=2, apart=True):
    """The same loss and its gradient with respect to the logits, without autograd, in O(m V).

    With l = log_softmax and p = exp(l) of a pass, L and P their sums over the passes and a = alpha / (2 m (m - 1) N):
      sum over i != j of KL(p_i || p_j) = sum over i and classes of u_i,  where u_i = p_i (m l_i - L),
      its gradient in the logits of pass i = u_i - p_i (sum over classes of u_i) + m p_i - P.
    Passes are computed apart, or as one tensor: which is faster depends on what the compiler makes of it."""
    m, n, classes = passes, target.numel(), logits.shape[-1]
    z = (logits if logits.dtype == torch.float64 else logits.float()).view(m, n, classes)
    labels = target.view(n, 1) if apart else target.view(1, n, 1).expand(m, n, 1)
    z = z.unbind(0) if apart else [z]

    def total(each):  # over the passes
        return sum(each) if apart else each[0].sum(0)

    top = [x.amax(-1, keepdim=True) for x in z]
    lse = [t + (x - t).exp().sum(-1, keepdim=True).log() for x, t in zip(z, top)]
    lp = [x - s for x, s in zip(z, lse)]
    p = [x.exp() for x in lp]
    value = (1 - smoothing) / (m * n) * sum((s - x.gather(-1, labels)).sum() for x, s in zip(z, lse))
    if smoothing:
        value = value - smoothing / (m * n * classes) * sum(x.sum() for x in lp)
    at_label = (torch.arange(classes, device=logits.device) == labels).to(p[0].dtype) * ((1 - smoothing) / (m * n))
    gradient = [(x - smoothing / classes) / (m * n) - at_label for x in p]
    if m > 1:
        a, all_lp, all_p = 0.5 / (m * (m - 1) * n), total(lp), total(p)
        distance = [(x * (m * l - all_lp)).sum(-1, keepdim=True) for x, l in zip(p, lp)]
        value = value + a * sum(d.sum() for d in distance)
        gradient = [g + a * (x * (m * l - all_lp - d + m) - all_p) for g, x, l, d in zip(gradient, p, lp, distance)]
    return value, torch.cat(gradient).to(logits.dtype).view_as(logits)


def rdrop(s):
    """The loss alone, value and gradient."""
    logits = s.normal(s.passes * s.units, s.classes).requires_grad_()
    target = s.ids(s.classes, s.units)
    if s.best:
        z = logits.detach()
        ways = [compiled(lambda z, y, apart=apart: lean_rdrop(z, y, 0.0, s.passes, apart)) for apart in (True, False)]
        return fastest({name: lambda way=way: way(z, target) for name, way in zip(("apart", "as one"), ways)}, s.case)

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
            for apart in (True, False):
                value, gradient = lean_rdrop(logits.detach(), target, smoothing, m, apart)
                torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-12)
                torch.testing.assert_close(gradient, logits.grad, rtol=1e-12, atol=1e-14)
    print("the lean loss has the value and the gradient of autograd's")

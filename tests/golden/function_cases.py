"""Functions that users of PyTorch reach for; names and arguments are PyTorch's."""
import math

import torch
import torch.nn.functional as F

import op_cases
from common import exactly, integers
from op_cases import case


def einsum():
    for equation, *shapes in [
            ("ij,jk", (2, 3), (3, 2)),
            ("ij,jk->ki", (2, 3), (3, 2)),
            ("bqhd,bkhd->bhqk", (2, 2, 2, 3), (2, 3, 2, 3)),
            ("bhqk,bkhd->bqhd", (2, 2, 2, 3), (2, 3, 2, 2)),
            ("i,j->ij", (2, ), (3, )),
            ("i,i", (4, ), (4, )),
            ("bi,bi->b", (2, 3), (2, 3)),
            ("ii", (3, 3)),
            ("bii->bi", (2, 3, 3)),
            ("iji,jj->i", (2, 3, 2), (3, 3)),
            ("bA", (2, 3)),
            ("bn,anm,bm->ba", (2, 3), (2, 3, 2), (2, 2)),
            ("ij,jk,kl,lm->im", (2, 3), (3, 2), (2, 3), (3, 2)),
            ("...ij,...jk->...ik", (2, 1, 2, 3), (3, 3, 2)),
            ("...i", (2, 3)),
            ("i...,...->i", (2, 2, 3), (3, )),
            ("b...->...", (2, 2, 2)),
            ("ij,kj->ik", (2, 1), (3, 4)),
            ("ij,ij->ij", (2, 1), (1, 3)),
            ("ij,kl->", (2, 2), (2, 3))]:
        case("einsum", lambda *x, equation: torch.einsum(equation, *x), *shapes, equation=equation)


def lengths():
    def norm(x, *, p, dim=None, keepdim=False):
        return torch.linalg.vector_norm(x, p, dim, keepdim)
    for p in [1.0, 2.0, 3.0, 0.5, math.inf, -math.inf]:
        case("norm", norm, (3, 4), p=p)
        case("norm", norm, (2, 3, 2), p=p, dim=[0, -1], keepdim=True)
    # Vectors of zeros, and zeros in a vector: derivatives are finite.
    zeros = exactly([[0.0, 0.0, 0.0], [3.0, 0.0, -4.0]])
    for p in [1.0, 2.0, 1.5, 0.5, math.inf]:
        case("norm", norm, zeros, p=p, dim=[1])
    case("normalize", F.normalize, (3, 4))
    case("normalize", F.normalize, (3, 2, 2), p=1.0, dim=0)
    case("normalize", F.normalize, (2, 3), p=3.0, dim=-1)
    case("normalize", F.normalize, zeros, p=2.0, dim=1)
    case("normalize", F.normalize, (2, 3), p=2.0, dim=1, eps=5.0)
    case("cosine_similarity", F.cosine_similarity, (3, 4), (3, 4))
    case("cosine_similarity", F.cosine_similarity, (3, 2), (3, 2), dim=0)
    case("cosine_similarity", F.cosine_similarity, (3, 1, 4), (2, 4), dim=-1)
    case("cosine_similarity", F.cosine_similarity, (1, 3), (2, 3), dim=0)


def resizing():
    def interpolate(x, **args):
        return F.interpolate(x, **args)
    for size in [[7, 9], [3, 2], [5, 8], [1, 1]]:
        case("interpolate", interpolate, (1, 2, 5, 4), mode="nearest", size=size)
        for mode in ["bilinear", "bicubic"]:
            for corners in [False, True]:
                case("interpolate", interpolate, (1, 1, 5, 4), mode=mode, size=size, align_corners=corners)
            case("interpolate", interpolate, (1, 1, 5, 4), mode=mode, size=size, antialias=True)
    for factor in [[2.0, 2.0], [1.7, 0.6], [0.5, 1.0], [1.1, 1.2]]:
        case("interpolate", interpolate, (1, 1, 4, 5), mode="nearest", scale_factor=factor)
        for mode in ["bilinear", "bicubic"]:
            case("interpolate", interpolate, (1, 1, 4, 5), mode=mode, scale_factor=factor)
            if factor[0] != 1.1:  # the height stays, and PyTorch's backward is not that of its forward
                case("interpolate", interpolate, (1, 1, 4, 5), mode=mode, scale_factor=factor,
                     antialias=True)
    for mode in ["bilinear", "bicubic"]:
        case("interpolate", interpolate, (1, 1, 5, 4), mode=mode, size=[3, 6], align_corners=True,
             antialias=True)
        case("interpolate", interpolate, (1, 1, 19, 2), mode=mode, size=[3, 2], antialias=True)
    # Where the place of a pixel is computed in f32: 23 * 14 / 46 is 7, and pixel 6.
    case("interpolate", interpolate, (1, 1, 1, 14), mode="nearest", size=[1, 46])


def arrangements():
    case("flip", torch.flip, (2, 3), dims=[-1])
    case("roll", torch.roll, (3, 4), shifts=[1, -6], dims=[0, -1])
    case("roll", torch.roll, (2, 5), shifts=[2, 1], dims=[1, 1])
    case("roll", torch.roll, (2, 5), shifts=[3])
    for op in ["tril", "triu"]:
        for shape, diagonal in [((3, 3), 0), ((2, 3, 4), 1), ((4, 2), -2)]:
            case(op, getattr(torch, op), shape, diagonal=diagonal)
    for offset, dim1, dim2, shape in [(0, 0, 1, (3, 4)), (1, 1, -1, (2, 4, 3)), (-2, 2, 0, (2, 2, 5)),
                                      (-1, 0, 2, (4, 2, 2))]:
        case("diagonal", torch.diagonal, shape, offset=offset, dim1=dim1, dim2=dim2)
    for shape, diagonal in [((3, ), 0), ((2, ), -2), ((3, ), 1), ((4, 3), -1), ((2, 4), 2)]:
        case("diag", torch.diag, shape, diagonal=diagonal)
    case("tile", torch.tile, (2, 3), dims=[2])
    case("tile", torch.tile, (2, 2), dims=[2, 1, 3])
    case("repeat_interleave", lambda x, **args: torch.repeat_interleave(x, **args), (2, 3), repeats=2, dim=1)
    case("repeat_interleave", lambda x, **args: torch.repeat_interleave(x, **args), (2, 3), repeats=3)
    case("dot", torch.dot, (4, ), (4, ))
    case("outer", torch.outer, (3, ), (2, ))
    for indexing in ["ij", "xy"]:
        case("meshgrid", lambda *x, indexing: torch.meshgrid(*x, indexing=indexing), (2, ), (3, ), (2, ),
             indexing=indexing)
    case("one_hot", F.one_hot, integers(2, 3, high=4), num_classes=5)
    case("one_hot", F.one_hot, exactly([2, 0, 3]))


def all_cases():
    before = len(op_cases.cases)
    for family in [einsum, lengths, resizing, arrangements]:
        family()
    return op_cases.cases[before:]

// All of Tandem's public headers.
#pragma once

#include "autograd/device.h"
#include "autograd/engine.h"
#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "autograd/gradcheck.h"
#include "autograd/noise.h"
#include "autograd/op.h"
#include "autograd/parallel.h"
#include "autograd/pass_context.h"
#include "autograd/profiler.h"
#include "autograd/registry.h"
#include "autograd/scope.h"
#include "autograd/tensor.h"
#include "nn/nn.h"
#include "ops/ops.h"

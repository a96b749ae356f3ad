// All of Tandem's public headers. Not among them: headers for kernels and for what a folder shares with
// itself; an op with kernels of its own includes autograd/kernel.h and ops/loops/ beside this.
// tests/test_headers.py has the rule.
#pragma once

#include "autograd/anomaly.h"
#include "autograd/arrived.h"
#include "autograd/device.h"
#include "autograd/engine.h"
#include "autograd/error.h"
#include "autograd/grad_mode.h"
#include "autograd/gradcheck.h"
#include "autograd/graph.h"
#include "autograd/inference.h"
#include "autograd/load_device.h"
#include "autograd/noise.h"
#include "autograd/op.h"
#include "autograd/op_checks.h"
#include "autograd/packed_rows.h"
#include "autograd/parallel.h"
#include "autograd/pass_context.h"
#include "autograd/profiler.h"
#include "autograd/random.h"
#include "autograd/registry.h"
#include "autograd/scope.h"
#include "autograd/tensor.h"
#include "models/models.h"
#include "nn/nn.h"
#include "ops/ops.h"

// Modules, layers, initialisers, optimizers, schedules and files of tensors.
#pragma once

#include "nn/init.h"
#include "nn/layers.h"
#include "nn/module.h"
#include "nn/optim/adam.h"
#include "nn/optim/clip.h"
#include "nn/optim/schedule.h"
#include "nn/optim/sgd.h"
#include "nn/serialize/safetensors.h"

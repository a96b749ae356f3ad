// Modules, layers, initialisers, optimizers, schedules, data sets, files of tensors, and the trainer.
#pragma once

#include "nn/data/image_dataset.h"
#include "nn/init.h"
#include "nn/io/safetensors.h"
#include "nn/layers.h"
#include "nn/module.h"
#include "nn/optim/adam.h"
#include "nn/optim/clip.h"
#include "nn/optim/schedule.h"
#include "nn/optim/sgd.h"
#include "nn/train/trainer.h"

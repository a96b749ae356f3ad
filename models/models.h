// All bundled models and their objectives.
#pragma once

#include "models/cnn/cnn.h"
#include "models/depths.h"
#include "models/pooling.h"
#include "models/pretrained/pretrained.h"
#include "models/transformer/adaptive.h"
#include "models/transformer/decoding.h"
#include "models/transformer/language_model.h"
#include "models/transformer/masked_language_modeling.h"
#include "models/transformer/text_encoder.h"
#include "models/transformer/token_classification.h"
#include "models/transformer/transformer.h"
#include "models/vit/vit.h"

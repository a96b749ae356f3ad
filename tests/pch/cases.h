// The precompiled header of the tests.
#include <doctest/doctest.h>

#include "tools/pch/standard.h"

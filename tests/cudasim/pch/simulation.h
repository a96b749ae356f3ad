// Headers that most of the simulated device includes and nobody edits, read once. A source includes what it uses
// all the same: it compiles without this, too (-Db_pch=false).
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "tests/sim/sim_scenarios.h"
const struct scenario scenarios[] = {{NULL, NULL}};

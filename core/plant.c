/* SPDX-License-Identifier: MIT
 * Copyright (c) 2026 The Tidewire authors */

/* Which known bug is planted; only in builds made for that (TW_PLANT). */

#include "core/plant.h"

#ifdef TW_PLANT
enum plant plant_now = PLANT_NONE;
#endif

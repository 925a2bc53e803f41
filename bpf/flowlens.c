/* SPDX-License-Identifier: GPL-2.0-only */
/* All programs, one compilation unit. Which engine gives the macros their meaning is decided here and nowhere else. */
#ifdef ENGINE_BCC
#include "engine_bcc.h"
#else
#include "engine_core.h"
char LICENSE[] SEC("license") = "GPL";
#endif

#include "count.h"
#include "retransmits.h"
#include "failures.h"
#include "connections.h"
#include "resets.h"
#include "cgroups.h"
#include "existing.h"

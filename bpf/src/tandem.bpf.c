// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Copyright The Tandem Authors */
/* All programs of Tandem in one object; each file beside this one is one program. */

#include "from_pod.h"
#include "to_pod.h"
#include "select_member.h"
#include "judge.h"
#include "judge_root.h"
#include "guard_entry.h"
#include "learn.h"
#include "share.h"
#include "guard_port.h"

char _license[] SEC("license") = "Dual BSD/GPL";

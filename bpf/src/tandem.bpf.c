// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Copyright The Tandem Authors */
/* All programs of Tandem in one object: each file beside this one is one program, and a part of this compile unit. */

#include "from_pod.bpf.c"
#include "to_pod.bpf.c"
#include "select_member.bpf.c"
#include "judge.bpf.c"
#include "judge_root.bpf.c"
#include "guard_entry.bpf.c"
#include "guard_exit.bpf.c"
#include "learn.bpf.c"
#include "share.bpf.c"
#include "guard_port.bpf.c"

char _license[] SEC("license") = "Dual BSD/GPL";

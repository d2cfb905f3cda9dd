/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
#include "probe.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

/* probe PARENT-PID */
int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
		perror("probe: prctl");
		return 1;
	}
	/* The parent may have died before the prctl, without a notice. */
	if (argc != 2 || getppid() != atoi(argv[1]))
		return 1;
	return loop_run();
}

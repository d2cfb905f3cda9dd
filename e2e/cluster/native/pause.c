// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// The first process of a pod's sandbox: holds its namespaces, and is the parent of what the pod leaves behind.

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void on_end(int number)
{
	(void)number;
	_exit(0);
}

static void on_child(int number)
{
	(void)number;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

int main(void)
{
	signal(SIGINT, on_end);
	signal(SIGTERM, on_end);
	signal(SIGCHLD, on_child);
	for (;;)
		pause();
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// tandem-launch PROGRAM [ARG...]: the DNS proxy's way to its capabilities in a pod that is not root's.
//
// A container runtime gives a process that is not root's the pod's `capabilities.add` as bounding set only: none is
// effective. File capabilities on PROGRAM would be, but make the C library and Node distrust their environment
// (AT_SECURE), and with it the memory settings that the proxy needs. So this program has the file capabilities. It
// makes ambient what it was given, and becomes PROGRAM, which starts with just these and with AT_SECURE 0.
//
// Its file capabilities are all that may be given, without the effective bit: what the pod does not add is not there,
// instead of an error of execve(2). So the pod's list alone says what the proxy has. Root needs none of it.

#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	EXIT_USAGE = 2,
	// As env(1) and the shells have it.
	EXIT_CANNOT = 126,
	EXIT_NOT_FOUND = 127,
};

static const struct {
	unsigned int number;
	const char *name;
	bool is_needed;
} wanted[] = {
	{CAP_NET_RAW, "NET_RAW", true},
	{CAP_BPF, "BPF", true},
	{CAP_NET_ADMIN, "NET_ADMIN", false},
};

static int fail(const char *what)
{
	fprintf(stderr, "tandem-launch: %s: %s\n", what, strerror(errno));
	return EXIT_CANNOT;
}

int main(int argc, char **argv)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct given[2] = {0}, kept[2] = {0};

	if (argc < 2) {
		fputs("usage: tandem-launch PROGRAM [ARG...]\n", stderr);
		return EXIT_USAGE;
	}
	if (geteuid() == 0) {
		execv(argv[1], argv + 1);
		fail(argv[1]);
		return EXIT_NOT_FOUND;
	}
	if (syscall(SYS_capget, &header, given) != 0)
		return fail("capget");
	for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
		unsigned int word = wanted[i].number / 32;
		uint32_t bit = 1u << wanted[i].number % 32;

		if (given[word].permitted & bit) {
			kept[word].permitted |= bit;
			continue;
		}
		if (!wanted[i].is_needed)
			continue;
		fprintf(stderr,
			"tandem-launch: no CAP_%s: the container's securityContext.capabilities.add must have it, and the "
			"image its extended attributes (security.capability of this program)\n",
			wanted[i].name);
		return EXIT_CANNOT;
	}
	for (size_t i = 0; i < 2; i++)
		kept[i].effective = kept[i].inheritable = kept[i].permitted;
	if (syscall(SYS_capset, &header, kept) != 0)
		return fail("capset");
	for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
		unsigned int number = wanted[i].number;

		if (kept[number / 32].permitted >> number % 32 & 1 &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) != 0)
			return fail("prctl(PR_CAP_AMBIENT_RAISE)");
	}
	execv(argv[1], argv + 1);
	fail(argv[1]);
	return EXIT_NOT_FOUND;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * From root to a user with a few capabilities, for good. Capabilities belong to threads, and Node has
 * several before the first line of JavaScript runs: so the calling thread changes, and executes the program
 * again. All threads of the new image have what it leaves them, as ambient capabilities, and since those
 * need no file capabilities, AT_SECURE is 0: the C library and Node read their environment as always.
 */
#include "dns_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	CAPABILITIES_MAX = 64,
	STRINGS_MAX	 = 65536,
};

struct identity {
	uint32_t uid;
	uint32_t gid;
	uint64_t capabilities;
};

/* Sets the ids of the calling thread alone, by raw system calls: those of the C library set them in all threads. */
static int set_ids(const struct identity *want)
{
	gid_t group = want->gid;

	if (syscall(SYS_setgroups, 1, &group) != 0)
		return -1;
	if (syscall(SYS_setresgid, want->gid, want->gid, want->gid) != 0)
		return -1;
	return (int)syscall(SYS_setresuid, want->uid, want->uid, want->uid);
}

static int set_capabilities(uint64_t capabilities)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	for (size_t i = 0; i < 2; i++) {
		uint32_t word = (uint32_t)(capabilities >> (32 * i));

		data[i].effective = data[i].permitted = data[i].inheritable = word;
	}
	return (int)syscall(SYS_capset, &header, data);
}

/* Needs CAP_SETPCAP. Without it nothing is lost: no_new_privs keeps files from giving any back. */
static void drop_bounding_set(uint64_t capabilities)
{
	for (unsigned long i = 0; i < CAPABILITIES_MAX; i++)
		if (!(capabilities >> i & 1))
			prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
}

static const char *take_identity(const struct identity *want)
{
	int death_signal = 0;

	prctl(PR_GET_PDEATHSIG, &death_signal, 0, 0, 0);
	drop_bounding_set(want->capabilities);
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0)
		return "prctl(PR_SET_KEEPCAPS)";
	if (set_ids(want) != 0)
		return "setresuid";
	if (set_capabilities(want->capabilities) != 0)
		return "capset";
	for (unsigned long i = 0; i < CAPABILITIES_MAX; i++)
		if (want->capabilities >> i & 1 &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) != 0)
			return "prctl(PR_CAP_AMBIENT_RAISE)";
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return "prctl(PR_SET_NO_NEW_PRIVS)";
	/* A change of the uid clears it, and the parent still wants this process to end with it. */
	if (death_signal != 0)
		prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0);
	return NULL;
}

static bool is_program(const char *path)
{
	struct stat status;

	if (stat(path, &status) != 0 || access(path, X_OK) != 0)
		return false;
	errno = EACCES;
	return S_ISREG(status.st_mode);
}

/* Node marks all descriptors that it was given to be closed; only the standard ones are ours to pass on. */
static void keep_standard_streams(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		fcntl(fd, F_SETFD, 0);
}

static void free_strings(char **strings)
{
	for (size_t i = 0; strings != NULL && strings[i] != NULL; i++)
		free(strings[i]);
	free(strings);
}

/* An array of strings as execve(2) takes it; NULL when it is none. */
static char **strings_of(napi_env env, napi_value array)
{
	uint32_t count = 0;
	char **strings;

	if (napi_get_array_length(env, array, &count) != napi_ok || count > STRINGS_MAX)
		return NULL;
	strings = calloc((size_t)count + 1, sizeof *strings);
	for (uint32_t i = 0; strings != NULL && i < count; i++) {
		napi_value value;
		size_t length = 0;

		if (napi_get_element(env, array, i, &value) != napi_ok ||
		    napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok ||
		    (strings[i] = malloc(length + 1)) == NULL) {
			free_strings(strings);
			return NULL;
		}
		napi_get_value_string_utf8(env, value, strings[i], length + 1, &length);
	}
	return strings;
}

/* executeAs(uid, gid, capabilities_low, capabilities_high, path, args, env): only returns by throwing */
napi_value ds_execute_as(napi_env env, napi_callback_info info)
{
	struct ds_args args;
	struct identity want = {0};
	char path[PATH_MAX];
	char **argv, **envp;
	const char *failed;

	ds_args_begin(&args, env, info, 7);
	want.uid = ds_arg_u32(&args, 0, "uid", 1, UINT32_MAX - 1);
	want.gid = ds_arg_u32(&args, 1, "gid", 1, UINT32_MAX - 1);
	want.capabilities = ds_arg_u32(&args, 2, "capabilitiesLow", 0, UINT32_MAX);
	want.capabilities |= (uint64_t)ds_arg_u32(&args, 3, "capabilitiesHigh", 0, UINT32_MAX) << 32;
	ds_arg_string(&args, 4, "path", path, sizeof path);
	if (args.failed)
		return NULL;
	argv = strings_of(env, args.value[5]);
	if (argv == NULL)
		return ds_throw_argument(env, "args", "must be strings");
	envp = strings_of(env, args.value[6]);
	if (envp == NULL) {
		free_strings(argv);
		return ds_throw_argument(env, "env", "must be strings");
	}
	/* Nothing is changed for a program that is not there. */
	failed = is_program(path) ? take_identity(&want) : "access";
	if (failed == NULL) {
		keep_standard_streams();
		execve(path, argv, envp);
		failed = "execve";
	}
	int error = errno;
	free_strings(argv);
	free_strings(envp);
	return ds_throw_errno(env, error, failed, path);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Tandem Authors */
/*
 * Reads an object file. libbpf 1.1 leaks the fd of a file that libelf cannot read, so it gets memory
 * instead of a path.
 */
#include "loader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

void *file_read(const char *path, size_t *length)
{
	struct stat facts;
	uint8_t *data = NULL;
	size_t done = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int error = 0;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &facts) != 0)
		error = errno;
	else if (!S_ISREG(facts.st_mode) || facts.st_size == 0)
		error = EINVAL;
	else if (facts.st_size > OBJECT_FILE_BYTES_MAX)
		error = EFBIG;
	else if ((data = malloc((size_t)facts.st_size)) == NULL)
		error = ENOMEM;
	while (error == 0 && done < (size_t)facts.st_size) {
		ssize_t count = read(fd, data + done, (size_t)facts.st_size - done);

		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			error = count < 0 ? errno : EIO; /* it became shorter */
		else
			done += (size_t)count;
	}
	close(fd);
	if (error != 0) {
		free(data);
		errno = error;
		return NULL;
	}
	*length = done;
	return data;
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

#pragma once

#include <stdbool.h>
#include <stddef.h>

// Copies the string that the outermost object of `json` has under `key` to `value`, with a final zero. False
// where there is none, where it has an escape or needs more than `room`: then `value` is as it was.
bool top_level_string(const char *json, size_t length, const char *key, char *value, size_t room);

// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Capabilities of a program, as the extended attribute `security.capability` of its file. */

/** Source: include/uapi/linux/capability.h. */
const numbers = { NET_ADMIN: 12, NET_RAW: 13, BPF: 39 } as const;

/** VFS_CAP_REVISION_2: two words of each set. */
const revision = 0x0200_0000;

/**
 * struct vfs_cap_data with these permitted. Without the effective bit: the program raises what it finds, and starts
 * also where it is given less (with the bit execve(2) is EPERM then).
 */
export function fileCapability(names: readonly (keyof typeof numbers)[]): Uint8Array {
  const words = [0, 0];
  for (const name of names) {
    const number = numbers[name];
    const word = number >> 5;
    words[word] = ((words[word] ?? 0) | (1 << (number & 31))) >>> 0;
  }
  const [low = 0, high = 0] = words;
  const value = Buffer.alloc(20);
  for (const [index, word] of [revision, low, 0, high, 0].entries()) {
    value.writeUInt32LE(word, index * 4);
  }
  return value;
}

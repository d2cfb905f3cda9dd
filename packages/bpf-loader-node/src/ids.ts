// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Ids of the kernel for programs and links, which stand side by side in facts: the compiler tells them apart and takes plain numbers. */

declare const kind: unique symbol;

type KernelId<Kind extends string> = number & { readonly [kind]?: Kind };

export type ProgramId = KernelId<'ProgramId'>;
/** 0: a program that was attached without a link. */
export type LinkId = KernelId<'LinkId'>;

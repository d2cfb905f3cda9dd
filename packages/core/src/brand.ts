// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Numbers that the compiler tells apart, for ids and indices of different kinds that stand side by side. At run time a
 * branded number is a number: the brand costs nothing. It is given by `as`, where the number is made or read from memory.
 */

declare const brand: unique symbol;

export type Branded<Kind extends string> = number & { readonly [brand]: Kind };

/**
 * As {@link Branded}, for kinds whose numbers are made in many places, such as decoders of messages: a plain number is accepted, a
 * number of another kind is not.
 */
export type Flavored<Kind extends string> = number & { readonly [brand]?: Kind };

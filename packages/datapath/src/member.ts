// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The processes of the product that are members of the socket group. The map has TD_MEMBERS_MAX places;
 * a process's place is fixed, and its role in `td_member` is its index.
 */

export const memberNames = ['agent', 'dns-proxy'] as const;
export type MemberName = (typeof memberNames)[number];

/** Place of a process of the product in the group. */
export type MemberIndex = 0 | 1;
export const agentMember = 0;
export const proxyMember = 1;

/** The process's name; of a place that no process of the product has, "member-2". */
export function memberName(index: MemberIndex): MemberName;
export function memberName(index: number): string;
export function memberName(index: number): string {
  return memberNames[index] ?? `member-${index}`;
}

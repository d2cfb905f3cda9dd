// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Ids that stand side by side in calls. The kernel's maps, messages and the policy snapshot hold them as plain numbers. */

import type { Branded, Flavored } from './brand.ts';

/** Digest of a policy's rules. */
export type PolicyId = Branded<'PolicyId'>;
export const noPolicy = 0 as PolicyId;
/** Number of a namespace, by which its learned addresses are counted. */
export type NamespaceId = Branded<'NamespaceId'>;
/** Number of an endpoint, which all addresses of its pod share; 0: none. */
export type EndpointId = Flavored<'EndpointId'>;
/** Version of the policy snapshot; 0: none. */
export type Revision = Flavored<'Revision'>;
/** Index of a member in the group: 0 is the agent, 1 the DNS proxy, below TD_MEMBERS_MAX. */
export type GroupIndex = Flavored<'GroupIndex'>;
/** Index of an interface in its network namespace; 0: none. */
export type Ifindex = Flavored<'Ifindex'>;
/** Id by which a network namespace knows another one (RTM_GETNSID); -1: none. */
export type NetnsId = Flavored<'NetnsId'>;

// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * This process's place in the socket group: its state, heartbeat and revision, which `select_member` reads
 * for every packet. The beat is a store, not a system call, and comes from the event loop that serves DNS:
 * a blocked loop must look blocked.
 */

import type { Revision } from '@tandem/core/ids';
import { TD_MEMBERS_MAX } from '@tandem/datapath/abi.gen';
import type { NodeGroup } from '@tandem/datapath/group';
import type { MemberIndex } from '@tandem/datapath/member';

export class GroupMember {
  readonly group: NodeGroup;
  readonly index: MemberIndex;

  constructor(group: NodeGroup, index: MemberIndex) {
    this.group = group;
    this.index = index;
  }

  /** Announces a new run of this index. Times in nanoseconds: CLOCK_MONOTONIC, CLOCK_BOOTTIME. */
  join(monotonicNs: number, boottimeNs: number): void {
    this.group.join(this.index, process.pid, monotonicNs, boottimeNs);
  }

  beat(monotonicNs: number): void {
    this.group.beat(this.index, monotonicNs);
  }

  setState(state: 'live' | 'drain' | 'dead'): void {
    this.group.setState(this.index, state);
  }

  /** The policy revision that this member serves from now on. */
  setRevision(revision: Revision): void {
    this.group.setRevision(this.index, revision);
  }

  /** Whether pods would be served without this member. */
  isOtherServing(monotonicNs: number): boolean {
    for (let member = 0; member < TD_MEMBERS_MAX; member++) {
      if (member !== this.index && this.group.isServing(member, monotonicNs)) return true;
    }
    return false;
  }

  /**
   * Takes the right to leave the group. One member holds it at a time, and gets it only while another one
   * serves: two members that get SIGTERM at once do not both leave. If its holder has
   * died, the token is released when the holder's next run joins.
   */
  takeDrainToken(monotonicNs: number): boolean {
    if (!this.group.claimDrainToken(this.index)) return false;
    // Checked with the token in hand: a member that leaves by the rules needs it first.
    if (this.isOtherServing(monotonicNs)) return true;
    this.releaseDrainToken();
    return false;
  }

  releaseDrainToken(): void {
    this.group.releaseDrainToken(this.index);
  }
}

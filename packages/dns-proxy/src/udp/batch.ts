// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The batch at work: its number and its time, read once per batch and used by all that handle it. */

import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';

export class Batch {
  /** Of one batch all queries to one server leave by one socket; wraps. */
  number = 0;
  monotonicNs = 0;
  boottimeNs = 0;

  /** A batch that `loop` received, at the time of its clock. */
  begin(loop: UdpLoop): void {
    this.number = (this.number + 1) | 0;
    this.monotonicNs = loop.clock[0] as number;
    this.boottimeNs = loop.clock[1] as number;
  }

  /** A batch that nobody received: queries are done anew. */
  beginReplay(monotonicNs: number): void {
    this.number = (this.number + 1) | 0;
    this.monotonicNs = monotonicNs;
  }
}

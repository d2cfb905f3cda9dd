// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Where an agent learns of the pods of other nodes, apart from everything else because it is most of what a cluster says: 100,000
 * pods are 0.7 GB of JSON to each agent at its start, and each pod that comes or goes is told to all of them. Direct mode asks
 * the API server, which is meant for up to about 200 nodes; a server between it and the agents would be another
 * `PodDirectory`.
 */

import { ListWatch, type ObjectSink } from '@tandem/kube/list-watch';
import type { KubeSession } from '@tandem/kube/session';
import { podsOfOtherNodes } from './kube-resources.ts';

/** Something that is followed until it is stopped. */
export type ObjectFeed = Pick<ListWatch, 'state' | 'counters' | 'start' | 'stop'>;

export interface PodDirectory {
  /** Gives every pod of other nodes to `sink`, as the API server has it or with less than that. */
  follow(sink: ObjectSink): ObjectFeed;
}

export class DirectPodDirectory implements PodDirectory {
  readonly #session: KubeSession;
  readonly #nodeName: string;

  constructor(session: KubeSession, nodeName: string) {
    this.#session = session;
    this.#nodeName = nodeName;
  }

  follow(sink: ObjectSink): ObjectFeed {
    return new ListWatch({
      session: this.#session,
      resource: podsOfOtherNodes(this.#nodeName),
      sink,
    });
  }
}

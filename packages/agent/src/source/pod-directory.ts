// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The source of the pods of other nodes. It is apart from the other kinds because it is most of the traffic: at its start an
 * agent reads 0.7 GB of JSON for 100,000 pods, and each change of a pod goes to every agent. Direct mode lists and watches
 * the API server, which is meant for up to about 200 nodes; a server between it and the agents would be another
 * `PodDirectory`.
 */

import { ListWatch } from '@tandem/kube/list-watch';
import type { ObjectSink } from '@tandem/kube/object-sink';
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

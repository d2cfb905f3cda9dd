// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The thread of a DNS worker: the query path in a thread of its own, so that no JSON, watch or gRPC of the main
 * thread delays a query.
 */

import { parentPort, workerData } from 'node:worker_threads';
import { DnsWorker } from './worker/dns-worker.ts';
import { linuxSystem } from './worker/system-linux.ts';
import type { ToWorker, WorkerOptions } from './worker-messages.ts';

let worker: DnsWorker | null = null;
parentPort?.on('message', (message: ToWorker) => {
  if (message.kind === 'begin') {
    const options = workerData as WorkerOptions;
    worker = new DnsWorker(
      options,
      linuxSystem(options, (answer) => parentPort?.postMessage(answer)),
    );
    worker.start();
  } else {
    worker?.onMessage(message);
  }
});

// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The admin service of either process: all answers come from itself and the pins. */

import { type ServerWritableStream, type sendUnaryData, status } from '@grpc/grpc-js';
import type { GetMetricsResponseInit } from '@tandem/proto/gen/messages';
import type { AdminService } from '@tandem/proto/gen/services';
import type { ServiceHandlers } from '@tandem/proto/grpc-service';
import { StreamLink } from '@tandem/runtime/stream-link';
import { TandemError } from '@tandem/runtime/tandem-error';
import { PeerNames } from '../store/peer-names.ts';
import type { AdminContext } from './context.ts';
import { EventFilter, NameFilter } from './event-filter.ts';
import { observersMax } from './limits.ts';
import { listEndpoints, listFqdn } from './lists.ts';
import { Observer } from './observe.ts';
import { statusOf } from './status.ts';

export class AdminCounters {
  observersRefused = 0;
}

export interface Admin {
  readonly handlers: ServiceHandlers<AdminService>;
  readonly counters: AdminCounters;
  /** At present. */
  readonly observers: number;
}

export function createAdmin(context: AdminContext): Admin {
  const counters = new AdminCounters();
  const names = new PeerNames(context.store.cache, () => context.clock.monotonicMs());
  let observers = 0;
  const handlers: ServiceHandlers<AdminService> = {
    status: (_call, callback) => {
      try {
        callback(null, statusOf(context));
      } catch (error) {
        callback({ code: status.INTERNAL, details: TandemError.from(error, 'status').message });
      }
    },
    listEndpoints: (call) => {
      void sendPages(call, () => listEndpoints(context, call.request.pod));
    },
    listFqdn: (call) => {
      const filter = NameFilter.parse(call.request.namePattern);
      if (filter.ok) void sendPages(call, () => listFqdn(context, filter.value));
      else refuse(call, status.INVALID_ARGUMENT, filter.error);
    },
    observe: (call) => {
      const filter = EventFilter.parse(call.request, context.store.endpoints);
      if (!filter.ok) {
        refuse(call, status.INVALID_ARGUMENT, filter.error);
        return;
      }
      if (observers === observersMax) {
        counters.observersRefused += 1;
        refuse(call, status.RESOURCE_EXHAUSTED, `${observersMax} observers are there already`);
        return;
      }
      observers += 1;
      const { store, clock, ruleOf } = context;
      const onEnd = (): void => {
        observers -= 1;
      };
      // oxlint-disable-next-line no-new -- it lives as long as its call
      new Observer({ store, clock, names, ruleOf, filter: filter.value, call, onEnd });
    },
    getMetrics: (_call, callback) => {
      void answerMetrics(context, callback);
    },
  };
  return {
    handlers,
    counters,
    get observers() {
      return observers;
    },
  };
}

async function answerMetrics(
  context: AdminContext,
  callback: sendUnaryData<GetMetricsResponseInit>,
): Promise<void> {
  try {
    callback(null, { text: await context.metricsText() });
  } catch (error) {
    callback({ code: status.INTERNAL, details: TandemError.from(error, 'metrics').message });
  }
}

/** A call as far as it can be refused. */
interface RefusableCall {
  emit(event: 'error', error: object): boolean;
}

function refuse(call: RefusableCall, code: status, details: string): void {
  call.emit('error', { code, details });
}

/** Sends page after page, each when the client has taken the one before. */
async function sendPages<Page>(
  call: ServerWritableStream<never, Page> | ServerWritableStream<object, Page>,
  pages: () => Generator<Page, void, undefined>,
): Promise<void> {
  const link = new StreamLink<Page>(call as ServerWritableStream<object, Page>);
  let isOver = false;
  let wake: (() => void) | null = null;
  const end = (): void => {
    isOver = true;
    wake?.();
  };
  call.on('cancelled', end);
  call.on('close', end);
  link.onDrain = () => wake?.();
  try {
    for (const page of pages()) {
      if (isOver) return;
      link.send(page);
      // oxlint-disable-next-line no-await-in-loop -- the client's pace
      await new Promise<void>((resolve) => {
        if (link.isWritable || isOver) setImmediate(resolve);
        else wake = resolve;
      });
      wake = null;
    }
    link.close();
  } catch (error) {
    refuse(call, status.INTERNAL, TandemError.from(error, 'list').message);
  }
}

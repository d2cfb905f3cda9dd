// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// The sending side of a gRPC stream, of a client or a server alike. grpc-js takes any number of messages
// and keeps them in memory; a link takes none while the stream is backed up, so that what waits stays in
// the caller's bounded backlog.

/** The part of a stream that a link uses: `ClientDuplexStream`, `ServerDuplexStream`, `ServerWritableStream`. */
export interface WritableCall<Message> {
  write(message: Message): boolean;
  end(): void;
  on(event: 'drain' | 'close' | 'finish', listener: () => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

export class StreamLink<Message> {
  /** Messages handed to the stream. */
  sent = 0;
  /** Called when a link that refused takes messages again. */
  onDrain: (() => void) | null = null;
  readonly #call: WritableCall<Message>;
  #isBackedUp = false;
  #isClosed = false;

  constructor(call: WritableCall<Message>) {
    this.#call = call;
    call.on('drain', () => {
      this.#isBackedUp = false;
      if (!this.#isClosed) this.onDrain?.();
    });
    const close = (): void => {
      this.#isClosed = true;
    };
    call.on('close', close);
    call.on('finish', close);
    call.on('error', close);
  }

  /** False: `send` would refuse. */
  get isWritable(): boolean {
    return !this.#isBackedUp && !this.#isClosed;
  }

  /** Sends, or returns false: backed up or closed, the message was not taken. */
  send(message: Message): boolean {
    if (!this.isWritable) return false;
    this.sent++;
    // A false from write means: taken, but no more for now.
    this.#isBackedUp = !this.#call.write(message);
    return true;
  }

  /** Ends this side of the stream after what was sent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#call.end();
  }
}

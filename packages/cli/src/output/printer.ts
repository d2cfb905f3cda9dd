// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The one place where text goes to a terminal or a pipe. Every text is escaped here (threat T22): names of
 * pods and files and messages of other processes may hold escape sequences. Colours are ours alone, added
 * after escaping, only on a terminal and without NO_COLOR (no-color.org).
 */

import { once } from 'node:events';
import { escapeUnsafe } from '@tandem/runtime/log-escape';
import { textCharsMax } from '../limits.ts';

export type Style = 'good' | 'warning' | 'bad' | 'bold' | 'dim';

/** A text, plain or with a style. */
export type Text = string | { readonly text: string; readonly style: Style };

/** The part of a writable stream that is used. */
export interface OutputStream extends NodeJS.EventEmitter {
  readonly isTTY?: boolean;
  readonly writableNeedDrain: boolean;
  write(text: string): boolean;
}

const codes: Readonly<Record<Style, number>> = { good: 32, warning: 33, bad: 31, bold: 1, dim: 2 };

/** The text as `text` prints it without style. */
export function plainText(text: Text): string {
  const plain = typeof text === 'string' ? text : text.text;
  return escapeUnsafe(plain.length > textCharsMax ? `${plain.slice(0, textCharsMax)}...` : plain);
}

export class Printer {
  readonly #stream: OutputStream;
  readonly #hasColour: boolean;

  constructor(stream: OutputStream, env: Readonly<Record<string, string | undefined>>) {
    this.#stream = stream;
    const noColour = env['NO_COLOR'] ?? '';
    this.#hasColour = stream.isTTY === true && noColour === '' && env['TERM'] !== 'dumb';
  }

  /** One line of the texts laid end to end. A line break inside is escaped like any control character. */
  line(...texts: readonly Text[]): void {
    const line = texts.map((text) => this.#styled(text)).join('');
    this.#stream.write(`${line.trimEnd()}\n`);
  }

  /** Lines of text that is ours in form, such as help: its line breaks stay, the rest is escaped. */
  paragraphs(text: string): void {
    for (const line of text.replace(/\n$/, '').split('\n')) this.line(line);
  }

  /** A JSON document over several lines. */
  json(value: unknown): void {
    this.#stream.write(
      `${JSON.stringify(value, null, 2).split('\n').map(escapeUnsafe).join('\n')}\n`,
    );
  }

  /** One JSON document on one line, for streams of them. */
  jsonLine(value: unknown): void {
    this.#stream.write(`${escapeUnsafe(JSON.stringify(value))}\n`);
  }

  /** Waits while the reader of the output is behind, so that nothing piles up here. */
  async drained(signal: AbortSignal): Promise<void> {
    if (!this.#stream.writableNeedDrain) return;
    // An abort ends the wait: then the reader has ended.
    await once(this.#stream, 'drain', { signal }).catch(() => undefined);
  }

  #styled(text: Text): string {
    const plain = plainText(text);
    if (typeof text === 'string' || !this.#hasColour) return plain;
    return `\u001b[${codes[text.style]}m${plain}\u001b[0m`;
  }
}

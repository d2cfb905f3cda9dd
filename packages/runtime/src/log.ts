// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Logs: one line per change of state, never one per query (those are events and metrics). JSON for
// machines, text for people; both escaped. A line about a failure (a warning, an error, or a line with an Error) that is repeated is
// written once and counted (log-repeats.ts). At most logLinesPerSecondMax lines a second: further ones are counted, and the count is one line.

import type { Writable } from 'node:stream';
import winston from 'winston';
import { escapeLogText, escapeUnsafe, logTextCharsMax } from './log-escape.ts';
import { LogRepeats } from './log-repeats.ts';
import { LogSink } from './log-sink.ts';
import { TandemError } from './tandem-error.ts';

/** Lines of one logger in one second; errors are never suppressed. */
export const logLinesPerSecondMax = 200;
/** Causes of an error that are followed. */
const errorCausesMax = 4;

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export const logLevels: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];
export type LogFormat = 'json' | 'text';

/** Facts beside a message. An Error becomes its message, code and facts. Lists of texts are short. */
export type LogFields = Readonly<
  Record<string, string | number | boolean | readonly string[] | Error | null | undefined>
>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds `fields` to every line. */
  child(fields: LogFields): Logger;
  /** Lines over the rate since the start. */
  readonly suppressed: number;
  /** Repeated lines that were counted instead of written, since the start. */
  readonly repeated: number;
  /** Lines that could not be written since the start. */
  readonly lost: number;
  /** Why the last line could not be written; empty: it was. */
  readonly problem: string;
}

export interface LogOptions {
  /** Default info. */
  readonly level?: LogLevel;
  /** Default json. */
  readonly format?: LogFormat;
  /** Name of the process, in every line. */
  readonly program: string;
  /** Default: standard error, which the kernel writes before the process can end. */
  readonly destination?: Writable;
  /** Wall clock for the time of lines, ms since 1970. Default Date.now. */
  readonly nowMs?: () => number;
}

/**
 * An error's message, code and facts, and those of its causes. The stack only where it was unexpected; of a cause whose message
 * was said already only a code that was not.
 */
function errorText(error: Error): string {
  const parts: string[] = [];
  let said = '';
  let current: unknown = error;
  for (let depth = 0; depth < errorCausesMax && current instanceof Error; depth++) {
    const isSaid = depth > 0 && said.includes(current.message);
    const part = isSaid ? codeOf(current) : ownText(current, depth === 0);
    if (!isSaid || (part !== '' && !parts.some((each) => each.includes(part)))) parts.push(part);
    said += `${current.message} `;
    current = current.cause;
  }
  return parts.join('; because: ');
}

function ownText(error: Error, isFirst: boolean): string {
  if (!(error instanceof TandemError)) return (isFirst ? error.stack : null) ?? error.message;
  const facts = Object.entries(error.facts).map(([name, value]) => `${name}=${value}`);
  return `${error.code}: ${error.message}${facts.length > 0 ? ` (${facts.join(' ')})` : ''}`;
}

/** A code that `tandem explain` knows, of this package's errors or of an addon's; empty: it has none. */
function codeOf(error: Error): string {
  const { code } = error as { readonly code?: unknown };
  return typeof code === 'string' && code.startsWith('TANDEM_') ? code : '';
}

/** Fields in a form that is safe and bounded. */
function plainFields(fields: LogFields): Record<string, unknown> {
  const plain: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    if (value instanceof Error) plain[name] = errorText(value).slice(0, logTextCharsMax);
    else if (typeof value === 'string') plain[name] = value.slice(0, logTextCharsMax);
    else plain[name] = value;
  }
  return plain;
}

function textLine(info: winston.Logform.TransformableInfo): string {
  const { level, message, time, program, ...fields } = info;
  let line = `${String(time)} ${level.toUpperCase().padEnd(5)} ${String(program)}: ${String(message)}`;
  for (const [name, value] of Object.entries(fields)) {
    const isBare = typeof value !== 'object' && /^[^\s"=]+$/.test(String(value));
    line += ` ${name}=${isBare ? String(value) : JSON.stringify(value)}`;
  }
  return escapeUnsafe(line);
}

function lineFormat(format: LogFormat): winston.Logform.Format {
  return winston.format.printf((info) => {
    if (format === 'text') return textLine(info);
    const { level, message, time, program, ...fields } = info;
    return escapeUnsafe(JSON.stringify({ time, level, program, message, ...fields }));
  });
}

/** Counts lines per second. */
class LineLimit {
  suppressed = 0;
  #second = 0;
  #lines = 0;
  #unreported = 0;

  /** False: do not write. */
  take(level: LogLevel, nowMs: number): boolean {
    const second = Math.floor(nowMs / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#lines = 0;
    }
    this.#lines++;
    if (this.#lines <= logLinesPerSecondMax || level === 'error') return true;
    this.suppressed++;
    this.#unreported++;
    return false;
  }

  /** Lines suppressed since the last call, once the flood is over. */
  report(): number {
    if (this.#unreported === 0 || this.#lines > logLinesPerSecondMax) return 0;
    const count = this.#unreported;
    this.#unreported = 0;
    return count;
  }
}

/** A line about a failure as it was written first. */
interface Line {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Output that the loggers of a process share. */
interface Outlet {
  readonly winston: winston.Logger;
  readonly sink: LogSink;
  readonly limit: LineLimit;
  readonly repeats: LogRepeats<Line>;
  readonly nowMs: () => number;
}

class WinstonLogger implements Logger {
  readonly #outlet: Outlet;
  readonly #fields: Record<string, unknown>;

  constructor(outlet: Outlet, fields: Record<string, unknown>) {
    this.#outlet = outlet;
    this.#fields = fields;
  }

  get suppressed(): number {
    return this.#outlet.limit.suppressed;
  }

  get repeated(): number {
    return this.#outlet.repeats.total;
  }

  get lost(): number {
    return this.#outlet.sink.lost;
  }

  get problem(): string {
    return this.#outlet.sink.problem;
  }

  debug(message: string, fields: LogFields = {}): void {
    this.#write('debug', message, fields);
  }

  info(message: string, fields: LogFields = {}): void {
    this.#write('info', message, fields);
  }

  warn(message: string, fields: LogFields = {}): void {
    this.#write('warn', message, fields);
  }

  error(message: string, fields: LogFields = {}): void {
    this.#write('error', message, fields);
  }

  child(fields: LogFields): Logger {
    return new WinstonLogger(this.#outlet, { ...this.#fields, ...plainFields(fields) });
  }

  #write(level: LogLevel, message: string, fields: LogFields): void {
    const { winston: logger, limit, repeats, nowMs } = this.#outlet;
    if (!logger.isLevelEnabled(level)) return;
    const all = { ...this.#fields, ...plainFields(fields) };
    const isFailure =
      level === 'warn' ||
      level === 'error' ||
      Object.values(fields).some((value) => value instanceof Error);
    if (isFailure) {
      const key = `${level} ${message} ${JSON.stringify(all)}`;
      if (repeats.take(key, { level, message, fields: all })) return;
    } else {
      repeats.flush(nowMs());
    }
    if (!limit.take(level, nowMs())) return;
    const suppressed = limit.report();
    if (suppressed > 0) {
      writeLine(this.#outlet, {
        ...{ level: 'warn', message: 'log lines suppressed' },
        fields: { count: suppressed },
      });
    }
    writeLine(this.#outlet, { level, message, fields: all });
  }
}

/** The fixed fields last: a field of the same name must not replace them. */
function writeLine(
  { winston: logger, nowMs }: Pick<Outlet, 'winston' | 'nowMs'>,
  { level, message, fields }: Line,
): void {
  const time = new Date(nowMs()).toISOString();
  logger.log({ ...fields, level, message: escapeLogText(message), time });
}

/** Makes the logger of a process. */
export function createLogger(options: LogOptions): Logger {
  const program = options.program;
  const sink = new LogSink(options.destination ?? process.stderr);
  const logger = winston.createLogger({
    level: options.level ?? 'info',
    levels: { error: 0, warn: 1, info: 2, debug: 3 },
    format: winston.format.combine(
      winston.format((info) => Object.assign(info, { program }))(),
      lineFormat(options.format ?? 'json'),
    ),
    transports: [new winston.transports.Stream({ stream: sink, eol: '\n' })],
  });
  const nowMs = options.nowMs ?? ((): number => Date.now());
  const repeats = new LogRepeats<Line>(
    (line, count) =>
      writeLine(
        { winston: logger, nowMs },
        { ...line, fields: { ...line.fields, repeated: count } },
      ),
    nowMs,
  );
  return new WinstonLogger({ winston: logger, sink, limit: new LineLimit(), repeats, nowMs }, {});
}

/** A logger that writes nothing, for tests. */
export function silentLogger(): Logger {
  const nothing = (): void => {};
  const logger: Logger = {
    debug: nothing,
    info: nothing,
    warn: nothing,
    error: nothing,
    child: () => logger,
    suppressed: 0,
    repeated: 0,
    lost: 0,
    problem: '',
  };
  return logger;
}

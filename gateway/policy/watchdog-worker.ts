/** The Worker of `watchdog.ts`: counts how often it sees the same evaluation still running. */
import { writeSync } from "node:fs";

export interface WatchdogStart {
  readonly shared: SharedArrayBuffer;
  readonly limitMs: number;
}

export const digestOffset = 8;
export const digestBytes = 32;
export const sharedBytes = digestOffset + digestBytes;

/** Looks per limit. Looks are counted, not clocks compared: a machine that was suspended is not a hang. */
const looksPerLimit = 20;

function stopProcess(digest: Buffer, limitMs: number): void {
  const hex = digest.toString("hex");
  const line = {
    time: new Date().toISOString(),
    level: "error",
    message: "a policy evaluation did not end; the gateway stops",
    code: "policy.timeout",
    command: /^0*$/.test(hex) ? "session" : `sha256:${hex}`,
    limit_ms: limitMs,
  };
  try {
    writeSync(2, `${JSON.stringify(line)}\n`);
  } finally {
    process.kill(process.pid, "SIGKILL");
  }
}

function watch({ shared, limitMs }: WatchdogStart): void {
  const state = new Int32Array(shared, 0, 2);
  const digest = Buffer.from(shared, digestOffset, digestBytes);
  let sequence = 0;
  let looks = 0;
  setInterval(
    () => {
      const seen = Atomics.load(state, 1);
      looks = seen === sequence && seen & 1 ? looks + 1 : 0;
      sequence = seen;
      if (looks >= looksPerLimit) stopProcess(digest, limitMs);
    },
    Math.max(1, Math.floor(limitMs / looksPerLimit)),
  );
  Atomics.store(state, 0, 1);
}

if (!Bun.isMainThread) {
  addEventListener("message", (event: MessageEvent<WatchdogStart>) => watch(event.data), { once: true });
}

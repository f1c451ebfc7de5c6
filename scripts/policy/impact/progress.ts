/** How far it is, on a terminal only. */
const everyMs = 200;

export function showProgress(
  out: { readonly isTTY?: boolean; write(text: string): unknown },
  commands: number,
): { readonly add: (commands: number) => void; readonly end: () => void } {
  if (out.isTTY !== true) return { add: () => undefined, end: () => undefined };
  const startedAt = performance.now();
  let [judged, shownAt] = [0, 0];
  return {
    add(more) {
      judged += more;
      const now = performance.now();
      if (now - shownAt < everyMs) return;
      shownAt = now;
      const rate = Math.round((judged / (now - startedAt)) * 1_000);
      const [done, all] = [judged.toLocaleString("en"), commands.toLocaleString("en")];
      out.write(`\r\x1b[K${done} of at most ${all} commands, ${rate.toLocaleString("en")} a second`);
    },
    end: () => void out.write("\r\x1b[K"),
  };
}

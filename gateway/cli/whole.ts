/** Tells a recording that came whole from one that was cut on its way, or in its store. */
import { ClientError, exitCodes } from "./command.ts";

/**
 * Lines of a recording that has at least so many events. One that ends before is cut, whoever cut it.
 * @throws ClientError
 */
export async function* whole(lines: AsyncIterable<string>, events: number): AsyncGenerator<string> {
  let count = 0;
  const cut = (why: string) => {
    const hint = "What came is not all of it; `sallyport verify` says what is wrong with the recording.";
    return new ClientError(
      exitCodes.failed,
      "internal",
      `The recording ${why} after ${count} of at least ${events} events.`,
      hint,
    );
  };
  try {
    for await (const line of lines) {
      if (line === "") continue;
      yield line;
      count += 1;
    }
  } catch (cause) {
    if (cause instanceof ClientError) throw cause;
    throw cut("could not be read on");
  }
  if (count < events) throw cut("ends");
}

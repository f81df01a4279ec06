// A POST answered by server-sent events.

/**
 * @param {string} address
 * @param {unknown} body
 * @param {AbortSignal} signal
 * @param {(name: string, data: any) => void} hear
 * @returns {Promise<void>}
 */
export async function stream(address, body, signal, hear) {
  const answer = await fetch(address, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (!answer.ok || !answer.body) throw new Error(await refusal(answer));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    waiting += value;
    const events = waiting.split("\n\n");
    waiting = events.pop() ?? "";
    for (const event of events) tell(event, hear);
  }
}

/** @param {string} event @param {(name: string, data: any) => void} hear */
function tell(event, hear) {
  let name = "message";
  let data = "";
  for (const line of event.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (data) hear(name, JSON.parse(data));
}

/** The sentence of a refusal. @param {Response} answer @returns {Promise<string>} */
export async function refusal(answer) {
  try {
    const found = await answer.json();
    return String(found.error ?? `The server answered ${answer.status}.`);
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

/** @param {string} address @param {unknown} body @returns {Promise<any>} */
export async function post(address, body) {
  const answer = await fetch(address, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(await refusal(answer));
  return answer.json();
}

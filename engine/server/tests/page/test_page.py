"""The page at `/`, as a person uses it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from conftest import Opened, Server
from playwright.sync_api import Locator, Page, Route, expect



def choose(page: Page, **fields: str) -> None:
    page.get_by_text("Settings").click()
    for label, value in fields.items():
        page.get_by_label(label.replace("_", " ")).fill(value)


def turns(page: Page) -> Locator:
    return page.get_by_role("log").locator("article")


def settled(page: Page) -> None:
    """Waits until a reply is over."""
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()


def say(page: Page, text: str) -> str:
    """Says something, and answers what the model says."""
    count = turns(page).count()
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")
    expect(turns(page)).to_have_count(count + 2)
    settled(page)
    return reply(page)


def reply(page: Page) -> str:
    return turns(page).last.locator(".text").inner_text()


def number(page: Page, name: str) -> float:
    return float(page.locator(f"#{name}").inner_text().replace(",", ""))


def test_three_turns_are_one_session_and_its_answers_those_of_the_chat_route(
    opened: Opened, server: Server, picture: Callable[[Page], None]
) -> None:
    page = opened(server)
    model = server.ask("GET", "/v1/models")["data"][0]["id"]
    expect(page.locator("#model")).to_have_text(model)
    choose(page, Temperature="0", Most_tokens="24")
    said = []
    for text in ("What is the capital of France?", "And of Italy?", "Which of them is older?"):
        said.append({"role": "user", "content": text})
        said.append({"role": "assistant", "content": say(page, text)})
    [session] = server.sessions()
    assert number(page, "history") == session["history_length"]
    # Each turn is read once: the history is the chat, token for token, as the model's template writes it.
    tokens = server.ask("GET", f"/v1/sessions/{session['id']}/tokens")["tokens"]
    assert len(tokens) == session["history_length"]
    text = server.ask("POST", "/detokenize", {"tokens": tokens})["prompt"]
    assert text.count("<|im_start|>assistant") == 3
    for message in said:
        assert text.count(message["content"]) >= 1, message
    first = {"model": model, "messages": said[:1], "temperature": 0, "max_tokens": 24}
    choice = server.ask("POST", "/v1/chat/completions", first)["choices"][0]
    assert choice["message"]["content"].strip() == said[1]["content"].strip()
    picture(page)


def test_the_cache_stays_the_same_while_the_history_grows(
    opened: Opened, server: Server, picture: Callable[[Page], None]
) -> None:
    page = opened(server)
    choose(page, Most_tokens="8")
    long = "Tell me of the sea, the wind, the sand and the birds. " * 24
    say(page, long)
    full, before = number(page, "memory"), number(page, "history")
    say(page, long)
    say(page, long)
    assert number(page, "memory") == full > 0
    assert number(page, "history") > 2.5 * before
    assert number(page, "cached") < before
    expect(turns(page).last.locator(".note")).to_contain_text("out of sight")
    heights = {point.split(",")[1] for point in page.locator("#memory-line").get_attribute("points").split()[-3:]}
    assert len(heights) == 1, "the memory's line is flat at its end"
    picture(page)


def test_a_reply_that_is_stopped_keeps_what_was_said(opened: Opened, server: Server) -> None:
    page = opened(server)
    choose(page, Most_tokens="2000", Temperature="1")
    for stop in (lambda: page.get_by_role("button", name="Stop").click(), lambda: page.keyboard.press("Escape")):
        count = turns(page).count()
        page.get_by_label("Message", exact=True).fill("Write a very long story about a ship.")
        page.keyboard.press("Enter")
        expect(turns(page)).to_have_count(count + 2)
        expect(turns(page).last.locator(".text")).not_to_be_empty()
        stop()
        settled(page)
        expect(turns(page).last.locator(".note")).to_contain_text("stopped")
        [session] = server.sessions()
        kept = page.evaluate("JSON.parse(sessionStorage.getItem('kakeya-chats')).at(-1).tokens")
        told = server.ask("GET", f"/v1/sessions/{session['id']}/tokens")["tokens"]
        assert kept == told, "the page knows every token of the session, also those that it has not read"
        assert session["history_length"] == len(told) < 2000
        assert not session["busy"]


def test_a_reload_keeps_the_conversation(opened: Opened, server: Server) -> None:
    page = opened(server)
    choose(page, Most_tokens="8")
    answer = say(page, "Hello there.")
    page.reload()
    expect(turns(page)).to_have_count(2)
    assert reply(page) == answer
    say(page, "And again.")
    assert len(server.sessions()) == 1


def test_a_tab_that_slept_for_an_hour_goes_on(opened: Opened, server: Server, picture: Callable[[Page], None]) -> None:
    page = opened(server)
    page.clock.install()
    page.reload()
    choose(page, Most_tokens="8")
    answer = say(page, "Remember the word lantern.")
    tab = page.context.new_cdp_session(page)
    tab.send("Page.setWebLifecycleState", {"state": "frozen"})
    # Meanwhile others take all four places, so that its session, the one longest unused, has to go.
    [old] = server.sessions()
    for _ in range(4):
        server.ask("POST", "/v1/sessions", {"label": "another"})
    tab.send("Page.setWebLifecycleState", {"state": "active"})
    page.clock.fast_forward("01:00:00")
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("The server has ended this session")
    assert reply(page) == answer, "what was said is still there"
    picture(page)
    server.ask("DELETE", f"/v1/sessions/{server.sessions()[0]['id']}")
    page.get_by_role("button", name="Go on in a new session").click()
    expect(notice).to_be_hidden()
    own = [session for session in server.sessions() if session["label"] == "page"]
    assert [session["history_length"] for session in own] == [number(page, "history")]
    assert own[0]["id"] != old["id"]
    say(page, "Which word?")


def test_a_server_that_is_gone_is_named_and_nothing_typed_is_lost(opened: Opened, server: Server) -> None:
    page = opened(server)
    choose(page, Most_tokens="8")
    say(page, "Hello there.")
    page.context.set_offline(True)
    page.get_by_label("Message", exact=True).fill("Are you there?")
    page.keyboard.press("Enter")
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("does not answer. Is `kakeya serve` running?")
    expect(page.get_by_label("Message", exact=True)).to_have_value("Are you there?")
    expect(turns(page)).to_have_count(2)
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(notice).to_be_hidden()
    say(page, "Are you there?")
    assert len(server.sessions()) == 1


def test_another_chat_looked_at_while_a_reply_comes_doubles_nothing(opened: Opened, server: Server) -> None:
    page = opened(server)
    choose(page, Most_tokens="120", Temperature="1")
    page.get_by_label("Message", exact=True).fill("Tell a long story about a ship.")
    page.keyboard.press("Enter")
    expect(turns(page).last.locator(".text")).not_to_be_empty()
    page.get_by_role("button", name="New chat", exact=True).click()
    page.get_by_label("Message", exact=True).fill("a draft")
    page.get_by_role("button", name=re.compile("^Tell a long story")).click()
    expect(page.get_by_label("Message", exact=True)).to_have_value("")
    settled(page)
    page.get_by_role("button", name="New chat", exact=True).click()
    expect(page.get_by_label("Message", exact=True)).to_have_value("a draft")
    page.get_by_role("button", name=re.compile("^Tell a long story")).click()
    page.get_by_label("Message", exact=True).fill("")
    say(page, "And then?")
    same_tokens(page, server)


def same_tokens(page: Page, server: Server) -> None:
    """The page knows the session's tokens, all of them and no others."""
    [session] = server.sessions()
    told = server.ask("GET", f"/v1/sessions/{session['id']}/tokens")["tokens"]
    chats = page.evaluate("JSON.parse(sessionStorage.getItem('kakeya-chats'))")
    assert [chat["tokens"] for chat in chats if chat["id"] == session["id"]] == [told]


def test_what_is_lost_on_the_way_is_said_once(opened: Opened, server: Server) -> None:
    page = opened(server)
    choose(page, Most_tokens="8")
    say(page, "Hello there.")
    notice = page.get_by_role("alert")
    box = page.get_by_label("Message", exact=True)

    def lose_the_answer(route: Route) -> None:
        route.fetch()
        route.abort()

    # The session has it, and nobody was told.
    page.route("**/tokens", lose_the_answer, times=1)
    box.fill("Are you there?")
    page.keyboard.press("Enter")
    expect(notice).to_be_visible()
    expect(box).to_have_value("Are you there?")
    page.keyboard.press("Enter")
    expect(turns(page)).to_have_count(4)
    settled(page)
    same_tokens(page, server)

    # The session has it, and no answer was begun.
    page.route("**/generate", lambda route: route.fulfill(status=429, json={"error": {"message": "too many"}}), times=1)
    box.fill("And now?")
    page.keyboard.press("Enter")
    expect(notice).to_contain_text("too many")
    expect(box).to_have_value("And now?")
    expect(turns(page)).to_have_count(5)
    page.keyboard.press("Enter")
    expect(turns(page)).to_have_count(6)
    settled(page)
    same_tokens(page, server)
    [session] = server.sessions()
    told = server.ask("GET", f"/v1/sessions/{session['id']}/tokens")["tokens"]
    text = server.ask("POST", "/detokenize", {"tokens": told})["prompt"]
    assert [text.count(f"user\n{said}<") for said in ("Hello there.", "Are you there?", "And now?")] == [1, 1, 1]


def test_a_session_that_cannot_be_revived_is_as_it_was(opened: Opened, server: Server) -> None:
    page = opened(server)
    choose(page, Most_tokens="8")
    say(page, "Remember the word lantern.")
    history = number(page, "history")
    server.close_all()
    page.get_by_label("Message", exact=True).fill("Which word?")
    page.keyboard.press("Enter")
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("The server has ended this session")
    expect(page.get_by_label("Message", exact=True)).to_have_value("Which word?")
    page.route("**/tokens", lambda route: route.fulfill(status=429, json={"error": {"message": "too many"}}), times=1)
    page.get_by_role("button", name="Go on in a new session").click()
    expect(notice).to_contain_text("too many")
    page.keyboard.press("Enter")
    page.get_by_label("Message", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Go on in a new session").click()
    expect(notice).to_be_hidden()
    expect(page.locator("#history")).to_have_text(str(int(history)))
    page.get_by_label("Message", exact=True).focus()
    page.keyboard.press("Enter")
    expect(turns(page)).to_have_count(4)
    settled(page)
    same_tokens(page, server)


def test_the_end_of_another_session_is_not_this_ones(opened: Opened, server: Server) -> None:
    other = server.ask("POST", "/v1/sessions", {"label": "agent"})
    page = opened(server)
    choose(page, Most_tokens="4")
    say(page, "Hello there.")
    foreign = page.get_by_role("button", name=re.compile("^agent"))
    expect(foreign).to_be_visible()
    server.ask("DELETE", f"/v1/sessions/{other['id']}")
    foreign.click()
    expect(page.get_by_role("alert")).to_contain_text("That session has ended meanwhile.")
    expect(page.get_by_role("button", name="Go on in a new session")).to_be_hidden()
    say(page, "Still here?")
    assert len(server.sessions()) == 1


def test_settings_that_cannot_be_are_shown_and_nothing_is_sent(opened: Opened, server: Server) -> None:
    page = opened(server)
    sent: list[str] = []
    page.on("request", lambda asked: sent.append(asked.post_data or "") if asked.url.endswith("/generate") else None)
    choose(page, Most_tokens="0")
    page.get_by_label("Message", exact=True).fill("Hello there.")
    page.keyboard.press("Enter")
    assert page.get_by_label("Most tokens").evaluate("(field) => document.activeElement === field")
    expect(page.get_by_label("Message", exact=True)).to_have_value("Hello there.")
    page.get_by_label("Most tokens").fill("4")
    page.get_by_label("Temperature").fill("0.75")
    page.get_by_label("Top p").fill("0.92")
    say(page, "Hello there.")
    assert [json.loads(body) for body in sent] == [{"max_tokens": 4, "temperature": 0.75, "top_p": 0.92}]


def test_a_message_that_is_too_long_says_so_and_stays(opened: Opened, server: Server) -> None:
    page = opened(server)
    # Typed letter by letter it would take the browser minutes.
    page.get_by_label("Message", exact=True).evaluate("(box) => { box.value = 'word '.repeat(1_000_000); }")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("This message is too long. the body is over the limit")
    assert page.get_by_label("Message", exact=True).evaluate("(box) => box.value.length") > 4_000_000
    assert server.sessions() == []


def test_a_key_is_asked_for_and_kept_for_the_tab(opened: Opened, locked: tuple[Server, str]) -> None:
    server, key = locked
    page = opened(server)
    dialog = page.get_by_role("dialog", name="This server wants a key")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Key").fill("wrong")
    dialog.get_by_role("button", name="Use it").click()
    expect(dialog).to_contain_text("does not know the key that was given")
    dialog.get_by_label("Key").fill(key)
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    choose(page, Most_tokens="4")
    say(page, "Hello there.")
    page.reload()
    expect(turns(page)).to_have_count(2)
    expect(dialog).to_be_hidden()
    assert len(server.sessions()) == 1


def test_what_is_said_is_shown_as_it_is(opened: Opened, server: Server) -> None:
    page = opened(server)
    choose(page, Most_tokens="4")
    markup = "<img src=x onerror=\"document.title='run'\"> & <b>bold</b>\n  two blanks"
    page.get_by_label("Message", exact=True).fill(markup)
    page.keyboard.press("Enter")
    expect(turns(page)).to_have_count(2)
    settled(page)
    assert turns(page).first.locator(".text").text_content() == markup
    assert turns(page).locator("img, b").count() == 0
    assert page.title() == "Kakeya"


def test_sessions_of_others_are_listed_shown_and_continued(opened: Opened, server: Server) -> None:
    words = "Once upon a time there was a lighthouse"
    tokens = server.ask("POST", "/tokenize", {"prompt": words})["tokens"]
    other = server.ask("POST", "/v1/sessions", {"label": "agent"})
    server.ask("POST", f"/v1/sessions/{other['id']}/tokens", {"tokens": tokens})
    page = opened(server)
    choose(page, Most_tokens="4")
    page.get_by_role("button", name=re.compile("^agent")).click()
    expect(turns(page)).to_have_count(1)
    assert reply(page) == words
    say(page, "And then?")
    told = server.ask("GET", f"/v1/sessions/{other['id']}")
    assert told["history_length"] == number(page, "history") > len(tokens)
    page.get_by_role("button", name="New chat", exact=True).click()
    say(page, "Hello there.")
    assert len(server.sessions()) == 2
    page.get_by_role("button", name="End Hello there.").click()
    expect(page.get_by_role("button", name="End Hello there.")).to_have_count(0)
    assert [session["id"] for session in server.sessions()] == [other["id"]]


def test_a_keyboard_is_enough(opened: Opened, server: Server) -> None:
    page = opened(server)
    box = page.get_by_label("Message", exact=True)
    expect(box).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.locator("summary")).to_be_focused()
    page.keyboard.press("Enter")
    for label in ("Temperature", "Top p", "Most tokens"):
        page.keyboard.press("Tab")
        expect(page.get_by_label(label)).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("4")
    for _ in range(4):
        page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="Send")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(box).to_be_focused()
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    expect(turns(page)).to_have_count(2)
    settled(page)
    assert turns(page).first.locator(".text").text_content() == "one\ntwo"
    expect(box).to_be_focused()


def test_a_phone_is_enough(opened: Opened, server: Server, picture: Callable[[Page], None]) -> None:
    page = opened(server, viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    choose(page, Most_tokens="24")
    page.get_by_text("Settings").tap()
    say(page, "What is the capital of France?")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "nothing has to be scrolled sideways"
    for name in ("Send", "Sessions"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box is not None and box["height"] >= 40 and box["y"] + box["height"] <= 640, name
    expect(page.locator("#memory")).to_be_visible()
    picture(page)
    menu = page.get_by_role("button", name="Sessions")
    expect(page.get_by_role("button", name="New chat")).to_be_hidden()
    menu.tap()
    expect(menu).to_have_attribute("aria-expanded", "true")
    page.get_by_role("button", name="New chat").tap()
    expect(turns(page)).to_have_count(0)
    expect(page.get_by_role("button", name="New chat")).to_be_hidden()

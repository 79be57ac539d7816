"""Function tools, made-up and everyday ones, and the requests that call for them."""

import string
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from corpus import words
from corpus.dice import Dice

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter: names it goes by, its JSON schema, and how a value is drawn."""

    names: tuple[str, ...]
    schema: dict[str, Any]
    value: Callable[[Dice], Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    slot: Slot
    required: bool = True


@dataclass(frozen=True, slots=True)
class Function:
    """A tool as the user's program lists it, with ways to ask for it."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    asks: tuple[str, ...]
    fields: tuple[str, ...] = ()
    family: str = ""  # empty for a made-up one

    def tool(self) -> dict[str, Any]:
        schema = {
            "type": "object",
            "properties": {p.name: p.slot.schema for p in self.parameters},
            "required": [p.name for p in self.parameters if p.required],
        }
        function = {"name": self.name, "description": self.description, "parameters": schema}
        return {"type": "function", "function": function}

    def ask(self, dice: Dice) -> tuple[str, Arguments]:
        """A request and the arguments that it gives, in the order of the parameters."""
        pattern = dice.phrasing(self.asks)
        values = [parameter.slot.value(dice) for parameter in self.parameters]
        said = {int(name) for _, name, _, _ in string.Formatter().parse(pattern) if name}
        arguments = {}
        for place, parameter in enumerate(self.parameters):
            if place in said:
                arguments[parameter.name] = values[place]
            elif parameter.required:
                arguments[parameter.name] = silent_value(parameter)
        return pattern.format(*(spoken(value) for value in values)), arguments


def silent_value(parameter: Parameter) -> Any:
    """What is passed for a required parameter that the user did not mention: its first choice."""
    return parameter.slot.schema["enum"][0]


def spoken(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, list) else str(value)


def text(*names: str, value: Callable[[Dice], Any]) -> Slot:
    return Slot(names, {"type": "string"}, value)


def whole(*names: str, low: int = 1, high: int = 100) -> Slot:
    return Slot(names, {"type": "integer"}, lambda dice: dice.between(low, high))


def choice(*names: str, options: list[str]) -> Slot:
    return Slot(names, {"type": "string", "enum": options}, lambda dice: dice.pick(options))


def title_of(dice: Dice) -> str:
    return dice.phrase(1, 3)


def several(dice: Dice) -> list[str]:
    return [dice.word() for _ in range(dice.between(2, 3))]


CITY = text("city", "location", "place", "town", value=Dice.city)
PERSON = text("name", "person", "user", "customer", "contact", "full_name", value=Dice.name)
CODE = text("id", "number", "code", "reference", "key", value=Dice.code)
DATE = text("date", "day", "when", value=Dice.date)
TIME = text("time", "at", "start_time", "hour", value=Dice.time)
TITLE = text("title", "subject", "topic", "name", value=title_of)
BODY = text("text", "message", "body", "content", value=lambda dice: dice.phrase(2, 6))
ROOM = text(
    "room",
    "zone",
    value=lambda dice: dice.pick(["kitchen", "office", "hall", "garage", "attic", dice.invented()]),
)
EMAIL = text("email", "to", "recipient", "address", value=Dice.email)
QUERY = text("query", "q", "search", "keywords", value=lambda dice: dice.phrase(1, 4))
LANGUAGE = text("language", "target_language", value=lambda dice: dice.pick(words.LANGUAGES))
SYMBOL = text("symbol", "ticker", value=lambda dice: dice.invented()[:4].upper())
AMOUNT = Slot(("amount", "value", "sum"), {"type": "number"}, lambda dice: dice.number())
PRICE = Slot(("price", "cost"), {"type": "number"}, lambda dice: dice.decimal())
CURRENCY = ["USD", "EUR", "GBP", "JPY", "CHF", "SEK", "PLN", "INR"]
MONEY_FROM = text("from_currency", "source", "base", value=lambda dice: dice.pick(CURRENCY))
MONEY_TO = text("to_currency", "target", value=lambda dice: dice.pick(CURRENCY))
COUNT = whole("count", "quantity", "amount", "number", low=2, high=60)
DEGREES = whole("degrees", "temperature", low=5, high=35)
FIRST = Slot(("a", "x", "first"), {"type": "number"}, lambda dice: dice.number())
SECOND = Slot(("b", "y", "second"), {"type": "number"}, lambda dice: dice.number())
ITEM = text("item", "product", "food", "thing", value=title_of)
WORD = text("word", "term", value=Dice.word)

Family = tuple[str, str, tuple[Slot, ...], str, str]  # names, descriptions, slots, asks, fields

FAMILIES: list[Family] = [
    (
        "get_weather|get_current_weather|weather|fetch_weather|weather_lookup|get_forecast",
        "Get the current weather in a city|Get the weather for a location|Weather by place",
        (CITY,),
        "What is the weather in {0}?|What's the weather like in {0}?"
        "|How is the weather in {0} today?"
        "|Weather in {0}|Tell me the weather in {0}.|Do I need an umbrella in {0}?"
        "|Is it cold in {0}?"
        "|Check the weather for {0}|I am going to {0}. How is the weather?"
        "|(Could/Can) you check the weather in {0} for me?"
        "|(hey, /Hi, )how's the weather (over /)in {0} (right now/now/today)?"
        "|weather (for/in/today in/right now in) {0}|What's it like outside in {0}?"
        "|(Please /)(get/give/show) me the (current /)weather (in/for) {0}."
        "|I (want/need/would like) to know the weather in {0}"
        "|What (kind of /)weather (do they have/are they having) in {0}?"
        "|(Should I/Do I need to) (take a coat/bring a jacket/take an umbrella) in {0}?"
        "|Is it (sunny/windy/cloudy/nice out) in {0}( today/ right now/)?"
        "|What is the forecast for {0}?",
        "temperature|condition|humidity|wind",
    ),
    (
        "get_current_temperature|get_temperature|temperature",
        "Get the current temperature for a specific location|Get the temperature in a city",
        (CITY,),
        "What is the temperature in {0}?|How warm is it in {0}?|How hot is it in {0}?"
        "|Temperature in {0}"
        "|How many degrees is it in {0}?"
        "|(Could/Can) you (check/tell me/look up) the (current /)temperature in {0}?"
        "|(hey, /)how (warm/cold/hot) is it (right now/today/now) in {0}?"
        "|(current /)temperature (in /for )(the city of /){0}"
        "|(Please /)(get/give/show) me the temperature (in/for) {0}."
        "|What temperature (is it/do they have) in {0}( right now/ today/)?"
        "|I (want/need) to know (how warm it is/the temperature) in {0}"
        "|What does the thermometer say in {0}?"
        "|What's the current temperature in {0}?",
        "temperature",
    ),
    (
        "get_rain_probability|rain_probability|chance_of_rain",
        "Get the probability of rain for a specific location|Get the chance of rain in a city",
        (CITY,),
        "Will it rain in {0}?|What is the chance of rain in {0}?|How likely is rain in {0}?"
        "|What's the likelihood of rain in {0}?|Is it going to rain in {0}?"
        "|(Could/Can) you (check/tell me) if it (will/is going to) rain in {0}?"
        "|(hey, /)(is rain likely/is it likely to rain) in {0}( today/ tomorrow/)?"
        "|(chance/probability/risk) of rain in {0}"
        "|What's the (chance/probability) of rain in {0}( today/)?"
        "|(Please /)(get/give/show) me the (rain probability/chance of rain) (in/for) {0}."
        "|Should I expect (rain/showers) in {0}?"
        "|How (probable/likely) is it that it (rains/will rain) in {0}?"
        "|Any rain (expected /coming )in {0}?"
        "|Rain in {0}?",
        "probability",
    ),
    (
        "get_order_status|get_order|track_order|order_lookup",
        "Get the status of an order|Look up an order by its number|Track an order",
        (Slot(("order_id", "order_number", "order"), {"type": "string"}, Dice.code),),
        "What is the status of order {0}?|Where is my order {0}?|Check order {0} please."
        "|Has order {0} been shipped?|Any news on order {0}?|Track my order {0}"
        "|(Could/Can) you (check/look up/track) order {0}( for me/)?"
        "|(hey, /)(what's happening/what is going on) with (my /)order {0}?|order {0}( status/)"
        "|(status of /where is )order (number /){0}"
        "|I (want/would like) to know where (my /)order {0} is."
        "|Is (my /)order {0} (on its way/on the way/ready) yet?"
        "|My order number is {0}. (Where is it/When does it arrive/What is its status)?"
        "|(Please /)(give/tell) me the status of (my /)order {0}"
        "|When will order {0} arrive?",
        "status|eta|carrier",
    ),
    (
        "send_email|email|write_email|mail",
        "Send an email|Send an email to someone",
        (EMAIL, TITLE, BODY),
        "Send an email to {0} with the subject {1} and the text {2}|Email {0} about {1}: {2}"
        "|Write to {0}. Subject: {1}. Text: {2}|Send {0} an email, subject {1}, saying {2}"
        "|(Could/Can) you (send an email to/email) {0} with the subject {1} and the text {2}"
        "|(Please /)(send a mail/write an email) to {0}, subject: {1}, (text/body/message): {2}"
        "|I (want/need/would like) to email {0}. The subject is {1} and the (text/message) is {2}"
        "|(new /)email to {0}, subject {1}, text {2}"
        "|Compose an email for {0} (titled/with the subject) {1} (that says/saying) {2}"
        "|(hey, /)email {0}, subject {1}, (and write/and say): {2}"
        "|Mail {0}: subject {1}, body {2}",
        "status|message_id",
    ),
    (
        "send_message|message|send_text|notify",
        "Send a message to a person|Send a text message",
        (PERSON, BODY),
        "Send a message to {0}: {1}|Tell {0}: {1}|Text {0}: {1}|Send {0} the message {1}"
        "|(Could/Can) you (tell/text/message) {0}: {1}"
        "|(Please /)(let {0} know/tell {0}/write to {0}): {1}|(message/text) (to/for) {0}: {1}"
        "|I (want/need) to (send a message to/text/message) {0}: {1}"
        "|(Send/Write) {0} a (text/message/note) (saying/that says) {1}"
        "|(hey, /)(text {0}/send {0} a text) and say {1}|(Drop/Shoot) {0} a message: {1}"
        "|Message {0} saying {1}",
        "status",
    ),
    (
        "create_event|add_event|schedule_meeting|add_to_calendar",
        "Create an event in the calendar|Schedule a meeting",
        (TITLE, DATE, TIME),
        "Schedule {0} on {1} at {2}|Add {0} to my calendar on {1} at {2}."
        "|Put {0} in the calendar: {1}, {2}"
        "|Create an event {0} for {1} at {2}"
        "|(Could/Can) you (put/add) {0} (in/on/to) my calendar (for/on) {1} at {2}?"
        "|(Please /)(schedule/book/plan) {0} for {1} at {2}"
        "|{0}, {1} at {2}, (please add it to my calendar/put it in my calendar)"
        "|I have {0} on {1} at {2}, (add it to the calendar/put it in the calendar)"
        "|(new event/new meeting/calendar): {0}, {1}, {2}"
        "|(hey, /)(set up/arrange) a meeting (about/called) {0} on {1} at {2}"
        "|Block {2} on {1} for {0}"
        "|Plan a meeting {0} on {1} at {2}",
        "status|event_id",
    ),
    (
        "get_stock_price|stock_price|stock_quote",
        "Get the current price of a stock|Get a stock quote by symbol",
        (SYMBOL,),
        "What is the stock price of {0}?|How much is {0} stock?|Price of {0} stock"
        "|What does {0} trade at?"
        "|Get me a quote for {0}"
        "|(Could/Can) you (check/look up/get) the (stock /share )price of {0}( for me/)?"
        "|(hey, /)what's {0} (trading at/worth/at) (right now/now/today)?"
        "|(price of /stock price /quote for ){0}|{0} (stock /share )price"
        "|(Please /)(show/give/tell) me the (current /)price of {0}( stock/ shares/)"
        "|I (want/need) to know (how much {0} costs/the price of {0})"
        "|What is one share of {0} worth?|How much (does one share of {0} cost/is a share of {0})?"
        "|How is the {0} stock doing?",
        "price|change|currency",
    ),
    (
        "convert_currency|exchange_money|currency_converter",
        "Convert an amount of money into another currency|Convert currencies",
        (AMOUNT, MONEY_FROM, MONEY_TO),
        "Convert {0} {1} to {2}|How much is {0} {1} in {2}?|What is {0} {1} in {2}?"
        "|Change {0} {1} into {2}"
        "|(Could/Can) you convert {0} {1} (to/into) {2}( for me/)?|{0} {1} (to/in/into) {2}"
        "|(hey, /)how (much/many) {2} (is/do I get for) {0} {1}?"
        "|(Please /)(change/exchange/convert) {0} {1} (to/into/for) {2}"
        "|I (want/need) to (change/exchange/convert) {0} {1} (to/into) {2}"
        "|What (do I get for/would I get for) {0} {1} in {2}?|How much would {0} {1} be in {2}?"
        "|I have {0} {1}. How much is that in {2}?",
        "result|rate",
    ),
    (
        "set_reminder|create_reminder|add_reminder|remind",
        "Set a reminder|Create a reminder for the user",
        (BODY, TIME),
        "Remind me to {0} at {1}|Set a reminder: {0} at {1}|At {1} remind me to {0}"
        "|Please remind me about {0} at {1}"
        "|(Could/Can) you remind me (to/about) {0} at {1}?"
        "|(Please /)(set/create/add) a reminder (to/for/about) {0} at {1}"
        "|(hey, /)remind me at {1} (to/about) {0}|(reminder/remind me): {0}, {1}"
        "|Don't let me forget (to /about /){0} at {1}|I have to {0} at {1}, (please /)remind me"
        "|(Give/Send) me a reminder at {1}: {0}"
        "|I need a reminder to {0} at {1}",
        "status",
    ),
    (
        "search_web|web_search|search|search_internet",
        "Search the web|Search the internet for information",
        (QUERY,),
        "Search the web for {0}|Look up {0} on the internet|Find information about {0}"
        "|Search for {0}|Google {0}"
        "|(Could/Can) you (look up/google/find) {0}( for me/ online/ on the web)?"
        "|(hey, /)(look up/search/find) {0} (online/on the web/on the internet)"
        "|(Please /)search (the internet/the web/online) for {0}|(search/web search/google): {0}"
        "|What (does the web/does the internet) say about {0}?"
        "|I (want/need) to (find something/read) (on the web /online )about {0}"
        "|(Find/Show) me (something/pages/results) (on/about) {0}"
        "|See what you can find (on/about) {0}"
        "|Can you search for {0}?",
        "title|url",
    ),
    (
        "translate|translate_text",
        "Translate a text|Translate a text into another language",
        (BODY, LANGUAGE),
        "Translate {0} to {1}|How do you say {0} in {1}?|Translate the text {0} into {1}"
        "|(Could/Can) you translate {0} (to/into) {1}( for me/)?"
        "|(Please /)translate (this /the following /)(to/into) {1}: {0}"
        "|What (is/does one say for) {0} in {1}?|{0} in {1}"
        "|(hey, /)how (do/would) (you/I) say {0} in {1}?"
        "|I (want/need) (to say {0} in {1}/{0} in {1})"
        "|(What's the {1} for/What is the {1} word for) {0}?|translate to {1}: {0}"
        "|Say {0} in {1}",
        "translation",
    ),
    (
        "set_thermostat|set_temperature|heat_room",
        "Set the temperature of a room|Set the thermostat",
        (ROOM, DEGREES),
        "Set the {0} to {1} degrees|Heat the {0} to {1} degrees|Make the {0} {1} degrees warm"
        "|I want {1} degrees in the {0}"
        "|(Could/Can) you (set/heat/warm) the {0} to {1} degrees?"
        "|(Please /)(set/turn/put) the (thermostat/heating/heater) in the {0} to {1}( degrees/)"
        "|(hey, /)make it {1} degrees in the {0}|{0} to {1} degrees( please/)"
        "|I would like (the {0} at {1} degrees/it to be {1} degrees in the {0})"
        "|(Keep/Get/Bring) the {0} (at/to) {1} degrees|thermostat {0}: {1}"
        "|Set the temperature in the {0} to {1}",
        "status",
    ),
    (
        "get_user|find_user|lookup_customer|get_contact",
        "Get information about a user|Find a customer by name",
        (PERSON,),
        "Who is {0}?|Find the user {0}|Look up {0}|Show me the record of {0}"
        "|What do we know about {0}?"
        "|(Could/Can) you (look up/find/pull up) {0}( for me/)?|(hey, /)who's {0}?"
        "|(Please /)(show/give/get) me (the details of/the data of/everything on) {0}"
        "|(user /customer /contact ){0}"
        "|I (want/need) (the details of/the record of/information on) {0}"
        "|Do we have (a user/a customer/anyone/a contact) (called/named) {0}?"
        "|(Find/Search for) (the customer/the contact/a person) (called/named) {0}"
        "|What do you have on {0}?"
        "|Get the details of {0}",
        "email|role|age|id",
    ),
    (
        "create_ticket|open_ticket|report_issue",
        "Open a support ticket|Create a ticket in the help desk",
        (TITLE, choice("priority", "severity", options=["low", "medium", "high"])),
        "Open a ticket {0} with {1} priority|Create a {1} priority ticket: {0}"
        "|New ticket with priority {1}: {0}"
        "|Open a ticket about {0}"
        "|(Could/Can) you (open/create/file) a {1} priority ticket (for/about) {0}?"
        "|(Please /)(open/create/file) a ticket (for/about): {0}, (priority /severity ){1}"
        "|(new /)ticket: {0}, priority {1}"
        "|I (want/need) to (report/file) {0} (with/at) {1} priority"
        "|(hey, /)(report/log) an issue: {0}. (Priority/Severity): {1}"
        "|(There is a problem with/We have an issue with) {0}, (open/make) a {1} priority ticket"
        "|(Log/File) a {1} ticket (for/about) {0}"
        "|Please make a {1} ticket for {0}",
        "ticket_id|status",
    ),
    (
        "set_light|switch_light|control_light",
        "Turn a light on or off|Control the lights",
        (ROOM, choice("state", "power", options=["on", "off"])),
        "Turn {1} the light in the {0}|Switch the {0} light {1}|Turn the light in the {0} {1}"
        "|Lights {1} in the {0}"
        "|(Could/Can) you (turn/switch) {1} the (light/lights/lamp) in the {0}?"
        "|(Please /)(turn/switch) the {0} (light/lights/lamp) {1}"
        "|(hey, /)(lights/light) {1} in the {0}( please/)|{0} (light/lights) {1}"
        "|I (want/need) the (light/lights) in the {0} {1}"
        "|(Turn/Switch) on the (light/lights/lamp) in the {0}"
        "|It is too dark in the {0}, (turn/switch) the light on"
        "|(Set/Have) the (light/lights) in the {0} {1}"
        "|Put the {0} light {1}",
        "status",
    ),
    (
        "play_music|play_song|start_music",
        "Play a song|Play music by an artist",
        (TITLE, text("artist", "singer", value=Dice.name)),
        "Play {0} by {1}|I want to hear {0} by {1}|Put on {0} by {1}"
        "|Can you play {0} from {1}?"
        "|(Could/Can) you (play/put on/start) {0} by {1}?"
        "|(Please /)play (the song /the track /){0} (by/from) {1}"
        "|(hey, /)play me {0} by {1}|{0} by {1}( please/)"
        "|I (want/would like/feel like) (to listen to/listening to) {0} by {1}"
        "|(Let's/Let us/Let me) (hear/listen to) {0} by {1}"
        "|(play/start) the (song/track) {0}, (artist/singer) {1}"
        "|Start {0} by {1}",
        "status",
    ),
    (
        "get_distance|distance|find_route",
        "Get the distance between two places|Find the way between two cities",
        (
            text("origin", "from", "start", value=Dice.city),
            text("destination", "to", "end", value=Dice.city),
        ),
        "How far is it from {0} to {1}?|Distance from {0} to {1}"
        "|What is the distance between {0} and {1}?"
        "|How do I get from {0} to {1}?"
        "|(Could/Can) you (tell me/check/find out) how far it is from {0} to {1}?"
        "|(distance /from /route from ){0} to {1}|(hey, /)how far (away /)is {1} from {0}?"
        "|(Please /)(get/give/show/tell) me the distance (between {0} and {1}/from {0} to {1})"
        "|I (want/need) to (go/drive/travel/get) from {0} to {1}. How far is (it/that)?"
        "|How (long/far) is the (way/road/trip/drive) from {0} to {1}?"
        "|How many (miles/kilometers) (is it from {0} to {1}/are there between {0} and {1})?"
        "|What is the (best/shortest) way from {0} to {1}?"
        "|Find the way from {0} to {1}",
        "distance|duration",
    ),
    (
        "search_flights|find_flights|book_flight",
        "Search for flights|Book a flight between two cities",
        (
            text("origin", "from_city", "departure", value=Dice.city),
            text("destination", "to_city", "arrival", value=Dice.city),
            DATE,
        ),
        "Find flights from {0} to {1} on {2}|Book a flight from {0} to {1} for {2}"
        "|I need to fly from {0} to {1} on {2}"
        "|Any flights from {0} to {1} on {2}?"
        "|(Could/Can) you (find/book/look for) (a flight/flights) from {0} to {1} (on/for) {2}?"
        "|(flights/flight) {0} to {1}, {2}"
        "|(hey, /)(are there/do you see) any flights from {0} to {1} (on/for) {2}?"
        "|(Please /)(search/look) for flights from {0} to {1} on {2}"
        "|I (want/would like/have) to (fly/travel/get) from {0} to {1} on {2}"
        "|(Show/Get/Find) me flights from {0} to {1}, (leaving /departing /){2}"
        "|We are flying from {0} to {1} on {2}, (find/book) us a flight"
        "|What flights (go/are there) from {0} to {1} on {2}?"
        "|Fly from {0} to {1} on {2}",
        "flight|price|departure",
    ),
    (
        "get_time|current_time|get_local_time",
        "Get the current time in a city|Get the local time",
        (text("city", "location", "timezone", value=Dice.city),),
        "What time is it in {0}?|Time in {0}|Tell me the time in {0}|What is the local time in {0}?"
        "|(Could/Can) you (tell me/check/look up) (what time it is/the time) in {0}?"
        "|(hey, /)what's the (local /current /)time in {0}( right now/)?"
        "|(current time /time /local time )in {0}"
        "|(Please /)(give/show/get) me the (local /current /)time in {0}"
        "|What time do they have in {0}?"
        "|I (want/need) to (call someone/know the time) in {0}. What time is it there?"
        "|What does the clock say in {0}?"
        "|How late is it in {0}?",
        "time|timezone",
    ),
    (
        "add|add_numbers|sum",
        "Add two numbers|Get the sum of two numbers",
        (FIRST, SECOND),
        "Add {0} and {1}|What is {0} plus {1}?|What is {0} + {1}?|{0} + {1}"
        "|(Could/Can) you add {0} and {1}( for me/)?|{0} plus {1}"
        "|(what's/how much is) {0} (+/plus) {1}?|(Please /)(add/add up/sum up) {0} and {1}"
        "|What is the (sum/total) of {0} and {1}?"
        "|(hey, /)what do (you get if you add {0} and {1}/{0} and {1} make)?"
        "|(calculate/compute) {0} + {1}|What do I get (for/from) {0} + {1}?"
        "|Sum {0} and {1}",
        "result",
    ),
    (
        "multiply|multiply_numbers|product",
        "Multiply two numbers|Get the product of two numbers",
        (FIRST, SECOND),
        "Multiply {0} by {1}|What is {0} times {1}?|What is {0} * {1}?|{0} * {1}"
        "|(Could/Can) you multiply {0} (by/with) {1}( for me/)?|{0} (times/x/multiplied by) {1}"
        "|(what's/how much is) {0} (times/x/multiplied by) {1}?"
        "|(Please /)(calculate/compute/work out) {0} (times/*) {1}"
        "|What is the product of {0} and {1}?|(hey, /)what do I get (for/from) {0} times {1}?"
        "|I need {0} times {1}"
        "|Multiply {0} and {1}",
        "result",
    ),
    (
        "add_to_cart|order_item|buy",
        "Add a product to the cart|Order a product",
        (ITEM, COUNT),
        "Add {1} {0} to my cart|Buy {1} {0}|Order {1} {0}|I want to order {1} {0}"
        "|(Could/Can) you (add {1} {0} to/put {1} {0} in) (my/the) (cart/basket)?|{1} {0}( please/)"
        "|(Please /)(order/buy/get me) {1} {0}|(hey, /)I (need/want/would like) {1} {0}"
        "|(I'll/I will) (take/have) {1} {0}|(add to cart/cart/order): {0}, {1}"
        "|(Give/Get) me {0}, {1} of them|(We need/We want/Shopping list:) {1} {0}"
        "|Put {1} {0} in the cart",
        "status|total",
    ),
    (
        "save_note|add_note|create_note|remember",
        "Save a note|Write down a note",
        (BODY,),
        "Make a note: {0}|Save the note {0}|Write down: {0}|Take a note: {0}"
        "|(Could/Can) you (make/take/save) a note: {0}|(note/new note/memo): {0}"
        "|(Please /)(note/write) (this /)down: {0}|(hey, /)(save/keep) this (note /)for me: {0}"
        "|I (want/need) to (write down/remember/note): {0}"
        "|(Add/Put) (this /the following /)(to/in) my notes: {0}|(Jot/Take) down: {0}"
        "|Keep a note of {0}"
        "|Note that {0}",
        "status|note_id",
    ),
    (
        "get_nickname|nickname",
        "Get the nickname of a city|Look up the nickname of a place",
        (CITY,),
        "What is the nickname of {0}?|What's {0} called by its people?|Nickname of {0}"
        "|Does {0} have a nickname?"
        "|(Could/Can) you (tell me/find/look up) the nickname of {0}?"
        "|(hey, /)what (is/do people call/do they call) {0} (for short/as a nickname)?"
        "|(nickname /nickname for /city nickname ){0}"
        "|(Please /)(get/give/show) me the nickname (of/for) {0}"
        "|(Is there a/Do you know the/What's the) nickname (of/for) {0}?"
        "|What nickname does {0} (have/go by)?|By what other name is {0} known?"
        "|Tell me the nickname of {0}",
        "nickname",
    ),
    (
        "book_table|reserve_table|make_reservation",
        "Book a table in a restaurant|Reserve a table",
        (
            text("restaurant", "place", value=lambda dice: dice.title()),
            whole("guests", "people", "party_size", low=2, high=12),
            TIME,
        ),
        "Book a table for {1} at {0} at {2}|Reserve a table at {0} for {1} people at {2}"
        "|Table for {1} at {0}, {2}"
        "|(Could/Can) you (book/reserve/get) (a table/us a table) at {0} for {1}( people/) at {2}?"
        "|(Please /)(book/reserve) a table for {1} (people /)at {0} at {2}"
        "|(hey, /)(table/dinner/reservation) for {1} at {0} at {2}( please/)"
        "|I (want/would like) to (eat/reserve/book) at {0} at {2} with {1} people"
        "|We are {1} people and want to eat at {0} at {2}"
        "|(reservation/booking): {0}, {1} people, {2}"
        "|(Get/Find) us a table at {0}, {1} (people/guests), at {2}"
        "|I need a table at {0} for {1} at {2}",
        "status|table",
    ),
]

FAMILIES_HELD_OUT: list[Family] = [
    (
        "get_horoscope",
        "Get the daily horoscope for a star sign",
        (text("sign", value=Dice.word),),
        "What is the horoscope for {0}?|Get the horoscope for {0}",
        "horoscope",
    ),
    (
        "find_parking",
        "Find a parking spot near an address",
        (text("address", value=title_of),),
        "Find parking near {0}|I need a parking spot near {0}",
        "spot|price",
    ),
    (
        "track_parcel",
        "Track a parcel by its tracking number",
        (text("tracking_number", value=Dice.code),),
        "Track parcel {0}|Where is the parcel with tracking number {0}?",
        "status|eta",
    ),
    (
        "get_nutrition",
        "Get the nutrition facts of a food",
        (text("food", value=Dice.word), whole("grams", low=10, high=500)),
        "Nutrition facts for {1} grams of {0}|How many calories are in {1} grams of {0}?",
        "calories",
    ),
    (
        "transfer_money",
        "Transfer money to a person",
        (text("recipient", value=Dice.name), Slot(("amount",), {"type": "number"}, Dice.number)),
        "Transfer {1} to {0}|Send {1} dollars to {0}",
        "status",
    ),
    (
        "cancel_subscription",
        "Cancel the subscription of a customer",
        (text("customer_id", value=Dice.code),),
        "Cancel the subscription of customer {0}|Please cancel subscription {0}",
        "status",
    ),
]

UNIT = choice("unit", options=["celsius", "fahrenheit"])
UNIT_CAPITAL = choice("unit", options=["Celsius", "Fahrenheit"])
FORMAT = choice("format", options=["short", "long"])
LIMIT = whole("limit", "max_results", low=1, high=20)

VERBS = [
    "get",
    "find",
    "check",
    "create",
    "delete",
    "update",
    "show",
    "cancel",
    "list",
    "open",
    "close",
    "start",
    "stop",
    "add",
    "remove",
    "send",
    "read",
    "approve",
    "assign",
    "archive",
    "download",
    "upload",
    "rename",
    "verify",
    "count",
    "move",
    "copy",
    "measure",
    "print",
    "register",
    "review",
]
VERBS_HELD_OUT = ["inspect", "restore", "publish", "export", "validate"]
NOUNS = [
    "account",
    "invoice",
    "report",
    "project",
    "task",
    "file",
    "folder",
    "server",
    "device",
    "sensor",
    "customer",
    "employee",
    "vehicle",
    "product",
    "package",
    "room",
    "booking",
    "contract",
    "payment",
    "ticket",
    "user",
    "team",
    "recipe",
    "song",
    "photo",
    "video",
    "page",
    "comment",
    "form",
    "machine",
    "document",
    "license",
    "budget",
    "campaign",
    "course",
    "lesson",
    "patient",
    "sample",
    "order",
    "key",
    "job",
    "event",
    "group",
    "channel",
    "backup",
]
NOUNS_HELD_OUT = ["locker", "shipment", "playlist", "permit", "warehouse", "elevator"]
DETAIL_SLOTS = [
    CODE,
    PERSON,
    CITY,
    DATE,
    EMAIL,
    text("status", "state", "color", "category", "label", "type", "tag", value=Dice.word),
    text("title", "reason", "note", "comment", "description", value=title_of),
    whole("count", "amount", "size", "level", "page", "year", "days", low=1, high=2000),
    PRICE,
    text("url", "link", value=Dice.url),
    Slot(("urgent", "active", "public"), {"type": "boolean"}, lambda dice: dice.chance(0.5)),
    Slot(("tags", "items", "names"), {"type": "array", "items": {"type": "string"}}, several),
]


def from_family(dice: Dice, held_out_family: bool = False) -> Function:
    """An everyday tool under one of its names, sometimes with one parameter more."""
    names, descriptions, slots, asks, fields = dice.pick(
        FAMILIES_HELD_OUT if held_out_family else FAMILIES
    )
    name = dice.pick(names.split("|"))
    parameters = tuple(named(dice, slot) for slot in slots)
    function = Function(
        name,
        described(dice, dice.pick(descriptions.split("|"))),
        unique(parameters),
        tuple(asks.split("|")),
        tuple(fields.split("|")),
        names,
    )
    return extended(dice, function) if dice.chance(0.3) else function


def named(dice: Dice, slot: Slot) -> Parameter:
    return Parameter(dice.pick(slot.names), slot)


def unique(parameters: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
    """Two slots may have drawn the same name; the later one is numbered."""
    seen: set[str] = set()
    fresh = []
    for parameter in parameters:
        name = parameter.name if parameter.name not in seen else f"{parameter.name}_2"
        seen.add(name)
        fresh.append(Parameter(name, parameter.slot, parameter.required))
    return tuple(fresh)


def extended(dice: Dice, function: Function) -> Function:
    """With a further parameter at the end: said in some requests, silent in others."""
    weather = {"temperature", "probability"} & set(function.fields)
    slots = [UNIT, UNIT_CAPITAL] if weather else [FORMAT, LIMIT]
    slot = dice.pick(slots)
    required = "enum" in slot.schema and dice.chance(0.6)
    extra = Parameter(dice.pick(slot.names), slot, required)
    if any(extra.name == p.name for p in function.parameters):
        return function
    place = len(function.parameters)
    tail = {"unit": f" in {{{place}}}", "format": f", {{{place}}} format"}
    said = tail.get(extra.name, f", at most {{{place}}} of them")
    asks = function.asks
    if dice.chance(0.4):
        asks = tuple(before_the_end(pattern, said) for pattern in asks)
    return replace(function, parameters=(*function.parameters, extra), asks=asks)


def before_the_end(pattern: str, said: str) -> str:
    end = pattern[-1] if pattern[-1] in "?." else ""
    return pattern.removesuffix(end) + said + end


def described(dice: Dice, description: str) -> str:
    if dice.chance(0.12):
        return ""
    return description + dice.pick(["", "", ".", ". Use it when the user asks for it."])


def generic(dice: Dice) -> Function:
    """A verb_noun tool that nobody has seen, asked for in its own words."""
    verb = dice.pick(VERBS_HELD_OUT if dice.held_out else VERBS)
    known = NOUNS_HELD_OUT if dice.held_out else NOUNS
    noun = dice.pick(known) if dice.chance(0.6) else dice.word()
    slots = dice.some(DETAIL_SLOTS, dice.pick([1, 1, 2, 2, 3]))
    parameters = unique(tuple(generic_parameter(dice, noun, slot) for slot in slots))
    patterns = generic_asks(dice, verb, noun, parameters)
    description = f"{verb.capitalize()} {dice.pick(['a', 'the', 'one'])} {noun}"
    return Function(
        tool_name(dice, verb, noun),
        described(dice, description),
        parameters,
        patterns,
        ("status", noun),
    )


def tool_name(dice: Dice, verb: str, noun: str) -> str:
    camel = verb + noun.capitalize()
    return dice.pick(
        [f"{verb}_{noun}"] * 4 + [camel, f"{noun}_{verb}", f"{verb}_{noun}_{dice.word()}"]
    )


def generic_parameter(dice: Dice, noun: str, slot: Slot) -> Parameter:
    name = dice.pick(slot.names)
    if dice.chance(0.25):
        name = f"{noun}_{name}"
    elif dice.chance(0.15):
        name = dice.word()
    return Parameter(name, slot)


def generic_asks(
    dice: Dice, verb: str, noun: str, parameters: tuple[Parameter, ...]
) -> tuple[str, ...]:
    labels = [parameter.name.replace("_", " ") for parameter in parameters]
    pairs = [f"{label} {{{place}}}" for place, label in enumerate(labels)]
    equal = [f"{label}: {{{place}}}" for place, label in enumerate(labels)]
    spoken_pairs, listed = " and ".join(pairs), ", ".join(equal)
    asks = [
        f"{verb.capitalize()} the {noun} with {spoken_pairs}",
        f"Please {verb} a {noun}, {listed}",
        f"I need to {verb} a {noun} with {spoken_pairs}.",
        f"{verb.capitalize()} {noun}: {listed}",
        f"{verb.capitalize()} the {noun} with {', '.join(pairs)}",
    ]
    if len(parameters) == 1:
        asks += [
            f"{verb.capitalize()} {noun} {{0}}",
            f"{verb.capitalize()} the {noun} {{0}} please",
        ]
    asks += [
        f"(Could/Would) you (please /){verb} (the/this/that) {noun} with {spoken_pairs}?",
        f"(Hey, /Hi, /OK, )(please /)({verb} the {noun}/{verb} our {noun}): {listed}",
        f"I (want/would like/have) to {verb} (the/my) {noun}: {listed}",
        f"(Go ahead and /Now /Please ){verb} the {noun} (with/using/for) {spoken_pairs}",
        f"(we need to /let's /please ){verb} this {noun}, {', '.join(pairs)}",
        f"{verb} {noun}, {', '.join(pairs)}",
    ]
    if len(parameters) == 1:
        asks += [
            f"{verb} {noun} {{0}}",
            f"(Can/Could) you {verb} {noun} {{0}}( for me/)?",
            f"(Please /I need to /I want to ){verb} (the /){noun} {{0}}",
        ]
    return (*asks, f"Can you {verb} the {noun} with {spoken_pairs}?")

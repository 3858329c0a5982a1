"""HTTP routes: parse, call the service, answer."""

from starlette.convertors import register_url_convertor

from api.prefix import Id

register_url_convertor("id", Id())
